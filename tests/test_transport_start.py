"""Sudo's dialogue, in all the pieces it may come in."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.command import marker, shell_command
from preflight.transport.start import Start, Tail, new_prompt

PROMPT = new_prompt()
MARK = marker(PROMPT).encode()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(at)]


cuts = st.lists(st.integers(0, 1000), max_size=12)


@given(st.binary(), st.binary(), cuts)
def test_all_up_to_the_marker_is_noise(noise: bytes, output: bytes, where: list[int]) -> None:
    start = Start(PROMPT)
    got = b""
    for piece in pieces(noise + MARK + output, where):
        if start.started:
            got += piece
        else:
            start.stdout(piece)
    assert start.started
    assert start.output + got == output


@given(st.binary(), st.binary(), cuts)
def test_the_password_is_asked_for_once(before: bytes, after: bytes, where: list[int]) -> None:
    start = Start(PROMPT)
    asked = [start.stderr(p) for p in pieces(before + PROMPT.encode() + after, where)]
    assert sum(asked) == 1
    assert start.errors == before + after


@given(st.binary(), cuts)
def test_nothing_else_asks_for_it(stderr: bytes, where: list[int]) -> None:
    start = Start(PROMPT)
    assert not any(start.stderr(p) for p in pieces(stderr, where))
    assert start.errors == stderr


@given(cuts)
def test_a_second_prompt_says_that_the_password_was_wrong(where: list[int]) -> None:
    start = Start(PROMPT)
    dialogue = f"{PROMPT}\nSorry, try again.\n{PROMPT}".encode()
    with pytest.raises(NodeError, match="refused the password") as caught:
        list(map(start.stderr, pieces(dialogue, where)))
    assert caught.value.state == AgentState.BECOME


def test_a_shell_that_echoes_the_command_asks_for_nothing() -> None:
    start = Start(PROMPT)
    echo = shell_command(None, "sudo", "pass", PROMPT).encode()
    assert not start.stderr(echo)
    start.stdout(echo)
    assert not start.started


def test_what_was_said_is_told_after_the_timeout() -> None:
    start = Start(PROMPT)
    start.stderr(b"One-time code:")
    error = start.timed_out(20)
    assert error.state == AgentState.BECOME
    assert "within 20 s (start timeout): One-time code:" in str(error)


def test_prompts_differ_and_hold_one_percent_sign() -> None:
    assert new_prompt() != new_prompt()
    assert new_prompt().count("%") == 1


def test_a_tail_forgets() -> None:
    tail = Tail()
    for number in range(10_000):
        tail.add(b"%d\n" % number)
    assert len(bytes(tail)) == 16 * 1024
    assert bytes(tail).endswith(b"9998\n9999\n")
