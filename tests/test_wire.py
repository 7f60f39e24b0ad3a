"""What controller and agent say to each other comes out as it went in, either way."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight import wire
from preflight.transport import bundle

ODD = st.sampled_from(['"', "\\", "\n", "\0", "\x7f", "\x85", "\u2028", "é", "\ufeff"])


def values(texts: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """Whatever JSON has words for, with such texts in it."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**63), 2**64),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)
        ),
        max_leaves=12,
    )


# From a node come error messages with any text; to it go addresses, hexadecimal and source.
FROM_A_NODE = values(st.one_of(st.text(), st.text(st.characters(codec=None)), ODD))
TO_A_NODE = values(
    st.one_of(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])), ODD)
)


@given(FROM_A_NODE)
def test_an_agent_writes_json(value: object) -> None:
    line = wire.encode(value)
    assert json.loads(line) == value
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.isascii()


@given(TO_A_NODE)
def test_an_agent_reads_what_the_controller_writes(value: object) -> None:
    line = bundle.encode(value)
    assert wire.decode_trusted(line) == value
    assert line.count(b"\n") == 1


def test_what_json_has_no_word_for_is_written_as_its_nearest() -> None:
    """Tuples as lists; keys as text."""
    assert json.loads(wire.encode({1: (2, 3), 4: {5: ()}})) == {"1": [2, 3], "4": {"5": []}}


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), 1j, [b"deep"]])
def test_what_no_frame_can_carry_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="no frame can carry"):
        wire.encode(value)


def test_a_frame_may_call_nothing() -> None:
    """It comes from the controller, whose code runs there anyway; still it is data."""
    with pytest.raises(NameError):
        wire.decode_trusted(b"print(1)\n")


@given(st.text("0123456789abcdef", min_size=16, max_size=16), st.binary(max_size=200))
def test_the_marker_is_unlike_any_noise(run: str, noise: bytes) -> None:
    marker = wire.marker(run)
    assert marker not in noise
    assert marker.startswith(b"\0\0")
    assert marker.endswith(b"\n")
    assert run.encode() in marker


def test_a_silence_is_several_beats_long() -> None:
    """Or one lost packet's retransmission would end an agent."""
    assert wire.SILENCE_S >= 4 * wire.BEAT_S
    assert isinstance(wire.SILENCE_S, int)  # an alarm counts whole seconds
