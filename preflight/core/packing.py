"""All cells of a matrix in little room: numbers into a table of outcomes, compressed.

A round-trip time becomes one byte: 0 is not measured, and 1 to 128 are steps of 11.5 % from 10 us
to 10 s, so what comes back is within 6 % of what went in, and packing it again changes nothing.
Where so many times are so unlike that they alone would take 45 MB, steps are three times as large.

Nothing here looks at cells one by one but the step from a time to its byte: of 5,000 nodes there
are 75 million.
"""

from __future__ import annotations

import math
import sys
import zlib
from array import array
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from struct import pack, unpack_from

from preflight.core.matrix import NOT_PLANNED, Matrix
from preflight.core.model import Outcome

FORM = 1
_CODES = {1: "B", 2: "H", 4: "I"}  # array codes by bytes for a cell
_FIRST_MS = 0.01
_STEP = math.log(1e6) / 127
_TIMES = [math.nan, *(_FIRST_MS * math.exp(_STEP * code) for code in range(128))]
_PIECE = 1 << 20  # bytes that are compressed together
_ROOM = 34_000_000  # compressed bytes for all times: 45 MB in base64
_STEPS = (1, 3, 5, 9)  # codes that become the one in their middle
_SET = bytes([0, *[255] * 255])  # a mask: all bits where a byte is not 0


def number_outcomes(matrix: Matrix) -> list[Outcome]:
    """The table: its first outcome has number 1 in the cells, 0 is not planned."""
    return list(matrix.outcomes())


def width(outcomes: Sequence[Outcome]) -> int:
    """Bytes for a cell."""
    return next(size for size in _CODES if len(outcomes) < 1 << 8 * size)


def pack_cells(matrix: Matrix, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The numbers of all cells, by family, probe, source, destination; in pieces of base64."""
    known = {outcome: number for number, outcome in enumerate(outcomes, 1)}
    numbers = [0 if outcome is None else known.get(outcome, 0) for outcome in matrix.table]
    size = width(outcomes)

    def tests() -> Iterator[bytes]:
        for family, probe in _tests(matrix):
            yield _renumbered(matrix.test(family, probe), numbers, size)

    return _base64(_compressed(tests()))


def pack_times(matrix: Matrix, room: int = _ROOM) -> Iterator[str]:
    """The round-trip times of all cells, likewise; `room` is for bytes before base64."""
    none = bytes(len(matrix.nodes) ** 2)
    codes = [time_codes(matrix, family, probe) or none for family, probe in _tests(matrix)]
    packed: list[bytes] = []
    for step in _STEPS:
        parts = (part.translate(_rounded(step)) for part in codes)
        packed = list(_compressed(parts, zlib.Z_RLE))  # a search for repeats finds none in noise
        if sum(map(len, packed)) <= room:
            break
    return _base64(packed)


def pack_test(matrix: Matrix, family: int, probe: int) -> tuple[int, Iterator[str]]:
    """One test's cells alone, as numbers into the matrix's own table; first the bytes for each."""
    numbers = matrix.test(family, probe)
    return numbers.itemsize, _base64(_compressed([_little(numbers).tobytes()]))


def pack_test_times(matrix: Matrix, family: int, probe: int) -> Iterator[str] | None:
    """One test's round-trip times alone, a byte each; None where it has none."""
    codes = time_codes(matrix, family, probe)
    return None if codes is None else _base64(_compressed([codes]))


def pack_bytes(data: bytes) -> Iterator[str]:
    """Any bytes in the same form."""
    return _base64(_compressed([data]))


def milliseconds() -> Sequence[float]:
    """The time that each byte above 0 stands for, that of 1 first."""
    return _TIMES[1:]


def unpack(matrix: Matrix, outcomes: Sequence[Outcome], cells: str, times: str) -> None:
    """Fill an empty matrix. Raises ValueError where the text is not what `pack_…` made."""
    row = len(matrix.nodes)
    area = row * row
    size = len(matrix.families) * len(matrix.probes) * area
    each = width(outcomes)
    packed = _inflated(cells, size * each)
    codes = _inflated(times, size)
    numbers = [NOT_PLANNED, *map(matrix.number, outcomes)]
    for position, (family, probe) in enumerate(_tests(matrix)):
        here = slice(position * area, (position + 1) * area)
        found = _little(array(_CODES[each], packed[here.start * each : here.stop * each]))
        if _beyond(found, len(outcomes)):
            raise ValueError("a cell has a number that no outcome has")
        if any(found[:: row + 1]):
            raise ValueError("a node has a cell to itself")
        own = codes[here]
        if own.translate(None, bytes(range(len(_TIMES)))):
            raise ValueError("a cell has a time that is none")
        own = _masked(own, _renumbered(found, [0, *[1] * len(outcomes)], 1))
        matrix.set_test(
            family,
            probe,
            _wanted(found, numbers, matrix.test(family, probe).itemsize),
            _decoded(own) if own.strip(b"\0") else None,
        )


def _tests(matrix: Matrix) -> Iterator[tuple[int, int]]:
    for family in range(len(matrix.families)):
        for probe in range(len(matrix.probes)):
            yield family, probe


def time_codes(matrix: Matrix, family: int, probe: int) -> bytes | None:
    """A byte for each cell of one test, 0 where not measured; None where nothing was."""
    times = matrix.test_times(family, probe)
    if times is None:
        return None
    planned = _renumbered(matrix.test(family, probe), _planned(matrix), 1)
    return _masked(_coded(times), planned)


def _rounded(step: int) -> bytes:
    """For each code the one that stands for all in its `step`."""
    codes = ((code - 1) // step * step + step // 2 + 1 for code in range(1, 256))
    return bytes([0, *(min(code, 128) for code in codes)])


def _planned(matrix: Matrix) -> list[int]:
    return [outcome is not None for outcome in matrix.table]


def _wanted(found: array[int], numbers: Sequence[int], size: int) -> array[int]:
    """A file's numbers as the matrix's own."""
    if size == found.itemsize and all(i == n for i, n in enumerate(numbers)):
        return found
    own = array(_CODES[size])
    own.frombytes(_renumbered(found, numbers, size, little=False))
    return own


def _renumbered(
    found: array[int], numbers: Sequence[int], size: int, *, little: bool = True
) -> bytes:
    """Each number's own in `numbers`, `size` bytes each, in the file's byte order or ours."""
    if found.itemsize == size == 1:
        return found.tobytes().translate(bytes(numbers[:256]).ljust(256, b"\0"))
    if size == 1:
        return bytes(map(numbers.__getitem__, found))
    own = array(_CODES[size], list(map(numbers.__getitem__, found)))
    return (_little(own) if little else own).tobytes()


def _beyond(numbers: array[int], most: int) -> bool:
    """Whether one of them is above `most`."""
    if numbers.itemsize > 1:
        return max(numbers, default=0) > most
    return bool(numbers.tobytes().translate(None, bytes(range(most + 1))))


def _masked(codes: bytes, planned: bytes) -> bytes:
    """The bytes of `codes` where `planned` is not 0, else 0."""
    mask = int.from_bytes(planned.translate(_SET), "little")
    return (int.from_bytes(codes, "little") & mask).to_bytes(len(codes), "little")


def _coded(times: array[float]) -> bytes:
    """A byte for each time, found by the upper half of its 32 bits: half a percent apart."""
    raw = times.tobytes()
    upper = array("H", bytes(len(raw) // 2))
    halves = memoryview(upper).cast("B")
    low, high = (2, 3) if sys.byteorder == "little" else (1, 0)
    halves[low & 1 :: 2] = raw[low::4]
    halves[high & 1 :: 2] = raw[high::4]
    halves.release()
    return bytes(map(_codes_of_halves().__getitem__, upper))


def _decoded(codes: bytes) -> array[float]:
    """A time for each byte, put together from its four bytes."""
    raw = bytearray(4 * len(codes))
    values = [pack("=f", time) for time in _TIMES]
    for place in range(4):
        table = bytes(value[place] for value in values).ljust(256, b"\0")
        raw[place::4] = codes.translate(table)
    times = array("f")
    times.frombytes(raw)
    return times


@cache
def _codes_of_halves() -> bytes:
    """For the upper half of each 32-bit float its byte, by the middle of all that share it."""
    middles = (unpack_from("<f", pack("<I", half << 16 | 0x8000))[0] for half in range(1 << 16))
    return bytes(map(_code, middles))


def _code(rtt_ms: float) -> int:
    if math.isnan(rtt_ms):
        return 0
    steps = round(math.log(min(max(rtt_ms, _FIRST_MS), 1e9) / _FIRST_MS) / _STEP)
    return min(steps, 127) + 1


def _little(numbers: array[int]) -> array[int]:
    """In place: the file's byte order, whatever this machine's."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _compressed(parts: Iterable[bytes], strategy: int = zlib.Z_DEFAULT_STRATEGY) -> Iterator[bytes]:
    packer = zlib.compressobj(6, strategy=strategy)
    for part in parts:
        for start in range(0, len(part), _PIECE):
            yield packer.compress(part[start : start + _PIECE])
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
    except (zlib.error, NotBase64) as error:
        raise ValueError(f"damaged: {error}") from error
    if len(data) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"does not hold {size} bytes")
    return data
