"""A device's driver and its offloads, by the ethtool ioctl (linux/ethtool.h): no program needed."""

import _socket as socket
import errno
import fcntl
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GSTRINGS, _GSSET_INFO, _GFEATURES = 0x03, 0x1B, 0x37, 0x3A
_SS_FEATURES = 4
_STRING = 32
_IFREQ = struct.Struct("16sP")
_IFREQ_SIZE = 40
TOLD = (
    "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "tx-checksum-ip-generic",
    "tx-checksum-ipv4", "tx-checksum-ipv6", "rx-checksum", "tx-generic-segmentation",
    "tx-tcp-segmentation", "rx-gro", "rx-gro-hw", "rx-lro", "rx-udp_tunnel-port-offload",
)  # fmt: skip


class Ethtool:
    """One control socket. Every method raises OSError where the device cannot say."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._names: "list[str] | None" = None  # the same for all devices of a kernel

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def read(self, device: str) -> "dict[str, Any]":
        """Driver and offloads of a device."""
        driver = parse_driver(self._ask(device, struct.pack("=I", _GDRVINFO), 196))
        if self._names is None:
            self._names = self._feature_names(device)
        blocks = (len(self._names) + 31) // 32
        request = struct.pack("=II", _GFEATURES, blocks)
        answer = self._ask(device, request, 8 + 16 * blocks)
        features, fixed = parse_features(answer, self._names)
        return {"driver": driver, "features": features, "fixed": fixed}

    def _feature_names(self, device: str) -> "list[str]":
        request = struct.pack("=IIQ", _GSSET_INFO, 0, 1 << _SS_FEATURES)
        count = struct.unpack_from("=I", self._ask(device, request, 20), 16)[0]
        if not 0 < count < 4096:
            raise OSError(errno.EOPNOTSUPP, "no names of features")
        request = struct.pack("=III", _GSTRINGS, _SS_FEATURES, count)
        return parse_names(self._ask(device, request, 12 + _STRING * count))

    def _ask(self, device: str, request: bytes, size: int) -> bytes:
        import array  # it brings collections

        # The kernel writes its answer over the request, at an address that we give it.
        buffer = array.array("B", request + bytes(size - len(request)))
        pointer = _IFREQ.pack(device.encode()[:15], buffer.buffer_info()[0])
        fcntl.ioctl(self._socket, _SIOCETHTOOL, pointer + bytes(_IFREQ_SIZE - len(pointer)))
        return buffer.tobytes()


def parse_driver(answer: bytes) -> "str | None":
    """The name in a struct ethtool_drvinfo."""
    return answer[4:36].split(b"\0")[0].decode("utf-8", "replace") or None


def parse_names(answer: bytes) -> "list[str]":
    """The strings of a struct ethtool_gstrings."""
    count = struct.unpack_from("=I", answer, 8)[0]
    raw = (answer[12 + _STRING * i : 12 + _STRING * (i + 1)] for i in range(count))
    return [name.split(b"\0")[0].decode("ascii", "replace") for name in raw]


def parse_features(answer: bytes, names: "list[str]") -> "tuple[dict[str, bool], list[str]]":
    """Of a struct ethtool_gfeatures those in `TOLD`: which are on, and which cannot be changed."""
    on, fixed = {}, []
    for position, name in enumerate(names):
        if name not in TOLD:
            continue
        block, bit = divmod(position, 32)
        available, _, active, never = struct.unpack_from("=IIII", answer, 8 + 16 * block)
        on[name] = bool(active >> bit & 1)
        if never >> bit & 1 or not available >> bit & 1:
            fixed.append(name)
    return on, fixed
