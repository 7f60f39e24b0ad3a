"""Packets as pcap files, for Wireshark and tcpdump."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from preflight.atomic import ensure_directory, replacing
from preflight.core.model import Node

__all__ = ["ensure_directory", "save_captures", "write"]

_MICROSECONDS = 0xA1B2C3D4  # a float of seconds since 1970 is no finer
_RAW = 101  # LINKTYPE_RAW: IPv4 or IPv6, as the first four bits say
_LONGEST = 0x40000  # what tcpdump takes for a packet
_LATEST = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHiIII")
_PACKET = struct.Struct("=IIII")


def write(path: str | Path, packets: Iterable[tuple[float, bytes]]) -> None:
    """Write packets, each with its time in seconds since 1970 and its bytes from the IP header on.

    They come in the order of their times. A packet may be cut short: its length on the wire is
    read from its header. Saved whole or not at all; raises FileError.
    """
    with replacing(path) as file:
        file.write(_HEADER.pack(_MICROSECONDS, 2, 4, 0, 0, _LONGEST, _RAW))
        file.writelines(_records(packets))


def save_captures(
    directory: str | Path, nodes: Sequence[Node], captured: Mapping[int, Sequence[Sequence[Any]]]
) -> list[Path]:
    """Write what each node's tap saw to a file of its own, named after the node.

    `captured` are the rows of `pcap` in `preflight.wire`, by the node's position; rows that make
    no sense are left out. Raises FileError.
    """
    saved: list[Path] = []
    for node, rows in sorted(captured.items()):
        name = re.sub(r"[^\w.-]|^\.", "_", nodes[node].name, flags=re.ASCII)[:100]
        path = Path(directory) / f"{name}.pcap"
        if path in saved:
            path = path.with_name(f"{name}-{node}.pcap")
        write(path, _readable(rows))
        saved.append(path)
    return saved


def _records(packets: Iterable[tuple[float, bytes]]) -> Iterator[bytes]:
    for seconds, data in sorted(packets, key=itemgetter(0)):
        whole, fraction = divmod(round(seconds * 1_000_000), 1_000_000)
        kept = data[:_LONGEST]
        yield _PACKET.pack(min(max(whole, 0), _LATEST), fraction, len(kept), _length(data)) + kept


def _length(data: bytes) -> int:
    """How long the packet was on the wire."""
    told = 0
    if len(data) >= 6 and data[0] >> 4 == 4:
        told = int.from_bytes(data[2:4], "big")
    elif len(data) >= 6 and data[0] >> 4 == 6:
        told = 40 + int.from_bytes(data[4:6], "big")
    return max(told, len(data))


def _readable(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[float, bytes]]:
    for row in rows:
        try:
            seconds, _, _, text = row
            data = bytes.fromhex(text)
        except (TypeError, ValueError):
            continue
        if type(seconds) in (int, float) and 0 <= seconds <= _LATEST:
            yield seconds, data
