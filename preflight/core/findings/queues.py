"""Rules that hand packets to a program by a queue (NFQUEUE, nft's `queue`): words about who reads
it.
"""

from __future__ import annotations

from preflight.core.diagnosis.trial import Rule


def who(rule: Rule) -> str:
    """`no program reads queue 9, and what nobody reads the kernel drops`; empty where not known."""
    if not rule.queue or rule.reader is None:
        return ""
    name = _name(rule)
    if not rule.reader:
        return f"no program reads {name}, and what nobody reads the kernel drops"
    return (
        f"a program reads {name} (netlink port {rule.reader}, which as a rule is its process ID) "
        "and decides"
    )


def verb(rule: Rule) -> str:
    """What the rule does with packets that do not get through."""
    if rule.queue and rule.reader:
        return "hands"
    return "rejects" if rule.rejects else "drops"


def end(rule: Rule) -> str:
    """The end of a sentence that `verb` begins."""
    return " over to a program that drops it" if rule.queue and rule.reader else ""


def advice(node: str, rule: Rule) -> str:
    """What there is to know beside the change; empty where the rule is no such one."""
    if not rule.queue:
        return ""
    name = _name(rule)
    if rule.reader == 0:
        return (
            f"{node}: no program reads {name}: start the one that the rule is for (an IPS, an "
            "agent), or remove the rule if it is gone. What is accepted before it that program "
            "never sees."
        )
    return (
        f"{node}: the program that reads {name} drops it: look there, too, for what it has "
        "against it. What is accepted before it that program never sees."
    )


def _name(rule: Rule) -> str:
    return f"queue{'s' if '-' in rule.queue else ''} {rule.queue}"
