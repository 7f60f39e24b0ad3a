"""All cells of a matrix in little room: numbers into a table of outcomes, compressed.

A round-trip time becomes one byte: 0 is not measured, and 1 to 128 are steps of 11.5 % from 10 us
to 10 s, so what comes back is within 6 % of what went in, and packing it again changes nothing.
"""

from __future__ import annotations

import math
import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence

from preflight.core.matrix import Matrix
from preflight.core.model import Outcome

FORM = 1
_CODES = {1: "B", 2: "H", 4: "I"}  # array codes by bytes for a cell
_FIRST_MS = 0.01
_STEP = math.log(1e6) / 127
_TIMES = [None, *(_FIRST_MS * math.exp(_STEP * code) for code in range(128))]


def number_outcomes(matrix: Matrix) -> list[Outcome]:
    """The table: its first outcome has number 1 in the cells, 0 is not planned."""
    return list(matrix.outcomes())


def width(outcomes: Sequence[Outcome]) -> int:
    """Bytes for a cell."""
    return next(size for size in _CODES if len(outcomes) < 1 << 8 * size)


def pack_cells(matrix: Matrix, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The numbers of all cells, by family, probe, source, destination; in pieces of base64."""
    numbers = {id(outcome): number for number, outcome in enumerate(outcomes, 1)}
    numbers[id(None)] = 0
    code = _CODES[width(outcomes)]

    def rows() -> Iterator[bytes]:
        for family in range(len(matrix.families)):
            for probe in range(len(matrix.probes)):
                for row in matrix.grid(family, probe):
                    yield _little(array(code, [numbers[i] for i in map(id, row)])).tobytes()

    return _base64(_compressed(rows()))


def pack_times(matrix: Matrix) -> Iterator[str]:
    """The round-trip times of all cells, likewise."""
    row = len(matrix.nodes)
    cells = len(matrix.families) * len(matrix.probes) * row * row

    def rows() -> Iterator[bytes]:
        for start in range(0, cells, row):
            yield bytes([_code(matrix.rtt_ms(i)) for i in range(start, start + row)])

    return _base64(_compressed(rows()))


def unpack(matrix: Matrix, outcomes: Sequence[Outcome], cells: str, times: str) -> None:
    """Fill an empty matrix. Raises ValueError where the text is not what `pack_…` made."""
    row = len(matrix.nodes)
    size = len(matrix.families) * len(matrix.probes) * row * row
    bytes_each = width(outcomes)
    numbers = array(_CODES[bytes_each], _inflated(cells, size * bytes_each))
    codes = _inflated(times, size)
    _little(numbers)
    if max(numbers, default=0) > len(outcomes):
        raise ValueError("a cell has a number that no outcome has")
    if any(any(numbers[start :: row + 1][:row]) for start in range(0, size, row * row)):
        raise ValueError("a node has a cell to itself")
    for index, number in enumerate(numbers):
        if number:
            matrix.set(index, outcomes[number - 1], _TIMES[codes[index]])


def _code(rtt_ms: float | None) -> int:
    if rtt_ms is None:
        return 0
    steps = round(math.log(max(rtt_ms, _FIRST_MS) / _FIRST_MS) / _STEP)
    return min(steps, 127) + 1


def _little(numbers: array[int]) -> array[int]:
    """In place: the file's byte order, whatever this machine's."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(6)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


def _base64(parts: Iterable[bytes]) -> Iterator[str]:
    """Joined, as if encoded in one go: three bytes make four characters."""
    held = b""
    for part in parts:
        held += part
        whole = len(held) // 3 * 3
        if whole:
            yield b64encode(held[:whole]).decode("ascii")
            held = held[whole:]
    yield b64encode(held).decode("ascii")


def _inflated(text: str, size: int) -> bytes:
    """Exactly `size` bytes; never unpacks more, whatever a file claims."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(b64decode(text, validate=True), size + 1)
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from error
    if len(data) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"does not hold {size} bytes")
    return data
