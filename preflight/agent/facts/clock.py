"""Whether somebody keeps the node's clock right, as the kernel knows it (adjtimex(2))."""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
_SIZE = 256  # struct timex is 208 bytes on 64-bit machines


def read() -> "dict[str, Any]":
    """Asks, and sets nothing. Raises OSError, ImportError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_SIZE)  # modes 0: read only
    state = libc.adjtimex(buffer)
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return parse(state, buffer.raw)


def parse(state: int, timex: bytes) -> "dict[str, Any]":
    """From adjtimex's answer and a struct timex."""
    _, _, _, max_error, _, status = struct.unpack_from("@Illlli", timex)
    synchronised = state != _TIME_ERROR and not status & _STA_UNSYNC
    return {"synchronised": synchronised, "max_error_us": max_error}
