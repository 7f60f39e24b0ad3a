"""Captures that tcpdump reads back as they were."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import sample

from preflight.errors import FileError
from preflight.report.pcap import ensure_directory, save_captures, write

UDP4 = bytes.fromhex(
    "4500002c 00010000 40117abe 0a000001 0a000002  c35017c1 00180000 00006558 00000000"
    "00000000 00000000"
)
ECHO6 = bytes.fromhex(
    "60000000 00083a40 fd00000000000000 0000000000000001 fd00000000000000 0000000000000002"
    "80000000 00010001"
)
NOW = 1_772_330_400.25


def read_back(path: Path) -> str:
    return subprocess.run(
        ["tcpdump", "-nn", "-tt", "-v", "-r", str(path)],
        capture_output=True, text=True, check=True, timeout=20,
    ).stdout  # fmt: skip


needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump here")


@needs_tcpdump
def test_tcpdump_reads_both_families_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "n1.pcap"
    write(path, [(NOW + 1, ECHO6), (NOW, UDP4)])
    first, *_, last = [line for line in read_back(path).splitlines() if line[:1].isdigit()]
    text = read_back(path)
    assert first.startswith("1772330400.250000 IP ")
    assert last.startswith("1772330401.250000 IP6 ")
    assert "10.0.0.1.50000 > 10.0.0.2.6081: Geneve" in text
    assert "fd00::1 > fd00::2: " in text
    assert "ICMP6, echo request, id 1, seq 1" in text
    assert "truncated" not in text


@needs_tcpdump
def test_a_packet_cut_short_keeps_its_length_on_the_wire(tmp_path: Path) -> None:
    whole = bytearray(UDP4 + bytes(1456))
    whole[2:4] = len(whole).to_bytes(2, "big")
    whole[24:26] = (len(whole) - 20).to_bytes(2, "big")
    path = tmp_path / "cut.pcap"
    write(path, [(NOW, bytes(whole[:256]))])
    assert "length 1500" in read_back(path)
    _, _, kept, length = struct.unpack("=IIII", path.read_bytes()[24:40])
    assert (kept, length) == (256, 1500)


@needs_tcpdump
@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 2**32), st.binary(max_size=300)), max_size=5))
def test_whatever_the_packets_the_file_is_one(
    tmp_path_factory: pytest.TempPathFactory, packets: list[tuple[float, bytes]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pcap"
    write(path, packets)
    data, at, found = path.read_bytes(), 24, []
    assert data[:24] == struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, 101)
    while at < len(data):
        seconds, micro, kept, length = struct.unpack_from("=IIII", data, at)
        assert micro < 1_000_000
        assert kept <= length
        found.append((seconds + micro / 1e6, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    expected = sorted(packets, key=lambda packet: packet[0])
    assert [data for _, data in found] == [data for _, data in expected]
    for (a, _), (b, _) in zip(found, expected, strict=True):
        assert abs(a - min(b, 2**32 - 1)) < 1.1
    read_back(path)


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "s.pcap"
    path.write_bytes(b"old")

    def broken() -> list[tuple[float, bytes]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, (packet for packet in broken()))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["s.pcap"]
    with pytest.raises(FileError, match=r"missing/s\.pcap: not saved: there is no directory"):
        write(tmp_path / "missing" / "s.pcap", [])


def test_a_file_for_each_node_whatever_its_name(tmp_path: Path) -> None:
    nodes = sample(["n1", "../../etc/x", "a/b", "a?b", "."]).matrix.nodes
    row = [NOW, "in", "eth0", UDP4.hex()]
    saved = save_captures(tmp_path, nodes, {n: [row] for n in range(5)})
    assert [path.name for path in saved] == [
        "n1.pcap", "_._.._etc_x.pcap", "a_b.pcap", "a_b-3.pcap", "_.pcap",
    ]  # fmt: skip
    assert {path.parent for path in saved} == {tmp_path}
    assert {path.read_bytes()[40:] for path in saved} == {UDP4}


@pytest.mark.parametrize(
    "row", [[], None, 5, ["now", "in", "e", "45"], [NOW, "in", "e", "4"], [NOW, "in", "e", 5],
            [float("nan"), "in", "e", "45"], [-1, "in", "e", "45"], [2**40, "in", "e", "45"],
            [True, "in", "e", "45"], {"a": 1}]
)  # fmt: skip
def test_rows_that_make_no_sense_are_left_out(tmp_path: Path, row: object) -> None:
    (path,) = save_captures(tmp_path, sample(2).matrix.nodes, {1: [row]})  # type: ignore[list-item]
    assert path.stat().st_size == 24


def test_a_directory_is_made_and_must_be_writable(tmp_path: Path) -> None:
    ensure_directory(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"/file: no directory to save to: File exists"):
        ensure_directory(tmp_path / "file")
