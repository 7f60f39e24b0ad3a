"""Recorded rulesets as the rules that end packets, each with the way that leads to it.

The ways are those of a packet that no rule before matches but jumps.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from preflight.core.diagnosis.trial import Rule

FIREWALLS = Path(__file__).parent / "fixtures" / "firewalls"
HOOKS = ("INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING")


class Ruleset(NamedTuple):
    tool: str
    family: str
    table: str
    chains: dict[str, list[tuple[int, str]]]  # handle (0 in iptables), text
    hooks: dict[str, str]  # base chain -> hook
    policies: dict[str, str]  # base chain -> policy


def read(name: str) -> Ruleset:
    """What `nft -a list` or `iptables-save` said, by the file's name."""
    lines = (FIREWALLS / name).read_text("utf-8").splitlines()
    if name.endswith(".save"):
        return _saved(lines, six=name.startswith("ufw6"))
    return _listed(lines)


def _saved(lines: list[str], *, six: bool) -> Ruleset:
    tool, family = ("ip6tables", "ip6") if six else ("iptables", "ip")
    table = next(line[1:] for line in lines if line.startswith("*"))
    out = Ruleset(tool, family, table, {}, {}, {})
    for line in lines:
        if line.startswith(":"):
            chain, policy, _ = line[1:].split(" ")
            out.chains[chain] = []
            if chain in HOOKS:
                out.hooks[chain], out.policies[chain] = chain.lower(), policy
        elif line.startswith("-A "):
            out.chains[line.split(" ")[1]].append((0, line))
    return out


def _listed(lines: list[str]) -> Ruleset:
    _, family, table, *_ = lines[0].split(" ")
    out = Ruleset("nft", family, table, {}, {}, {})
    chain = ""
    for line in lines[1:]:
        if found := re.match(r"\tchain (\S+) \{", line):
            chain = found[1]
            out.chains[chain] = []
        elif found := re.match(r"\t\ttype \w+ hook (\w+) .*; policy (\w+);", line):
            out.hooks[chain], out.policies[chain] = found[1], found[2]
        elif found := re.match(r"\t\t(.+) # handle (\d+)", line):
            out.chains[chain].append((int(found[2]), found[1]))
    return out


def ends(ruleset: Ruleset) -> Iterator[Rule]:
    """Every rule and policy that drops or rejects, once for each way to it."""
    for base, hook in ruleset.hooks.items():
        path: list[str] = []
        yield from _walk(ruleset, base, hook, path)
        if ruleset.policies[base].lower() == "drop":
            text = f"-P {base} DROP" if ruleset.tool != "nft" else "policy drop"
            yield _rule(ruleset, base, 0, 0, text, hook, path)


def _walk(ruleset: Ruleset, chain: str, hook: str, path: list[str]) -> Iterator[Rule]:
    path.append(chain)
    for position, (handle, text) in enumerate(ruleset.chains[chain], 1):
        found = re.search(r"(?:\b(?:jump|goto)|-[jg]) (\S+)(?: |$)", text)
        if found and found[1] in ruleset.chains:
            yield from _walk(ruleset, found[1], hook, path)
            if path[-1] != chain:
                path.append(chain)
        elif re.search(r"\b(drop|reject)\b|-j (DROP|REJECT)\b", text):
            yield _rule(ruleset, chain, handle, position, text, hook, path)


def _rule(
    ruleset: Ruleset, chain: str, handle: int, position: int, text: str, hook: str, path: list[str]
) -> Rule:
    return Rule(
        tool=ruleset.tool, family=ruleset.family, table=ruleset.table, chain=chain, handle=handle,
        position=position, policy=not position, text=text, comment="", rejects="reject" in
        text.lower(), hook=hook, sure=True,
        path=tuple((ruleset.family, ruleset.table, c) for c in path),
    )  # fmt: skip
