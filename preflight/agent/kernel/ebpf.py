"""A program of a few instructions that counts at a tracepoint, gone with its descriptors.

It reads fields of a record and counts them; the kernel's verifier has the last word on it. A perf
ring for each CPU would need no program, but costs a large machine more, and there are kernels
that write nothing into it while the CPU idles.
"""

import posix
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from preflight.agent.kernel.tracefs import Layout

_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241)}  # bpf, perf_event_open
_MAP_CREATE, _LOOKUP, _NEXT_KEY, _PROG_LOAD = 0, 1, 4, 5  # linux/bpf.h
_HASH, _TRACEPOINT_PROGRAM = 1, 5
_NAME = b"preflight"  # what bpftool shows meanwhile
_PERF_TRACEPOINT, _CLOEXEC = 2, 8  # linux/perf_event.h
_ENABLE, _SET_BPF = 0x2400, 0x40042408

_KEY = struct.Struct("=QII")  # location, reason, EtherType
_MAX_KEYS = 512

# Opcodes of linux/bpf.h; registers: 0 is the result, 1 to 5 arguments, 6 is kept, 10 the frame.
_LOAD = {2: 0x69, 4: 0x61, 8: 0x79}
_STORE_4, _STORE_8, _STORE_NUMBER, _ADD_ATOMIC = 0x63, 0x7B, 0x7A, 0xDB
_COPY, _ADD, _SET, _CALL, _EXIT = 0xBF, 0x07, 0xB7, 0x85, 0x95
_IF_EQUAL, _IF_UNLIKE = 0x15, 0x55
_FRAME, _KEY_AT, _VALUE_AT = 10, -16, -24
_CALL_LOOKUP, _CALL_UPDATE, _IF_ABSENT = 1, 2, 1


def _op(code: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("=BBhi", code, to | source << 4, offset, number)


_LEAVE = _op(_SET, 0) + _op(_EXIT)


def program(
    form: "Layout", counts: int, ethertypes: "Iterable[int]", unwanted: "Iterable[int]"
) -> bytes:
    """Counts records by location, reason and EtherType in the map with the descriptor `counts`.

    Only packets of these `ethertypes`, and none of these `unwanted` reasons. Raises ValueError
    for a layout that it cannot read.
    """
    wanted = sorted(ethertypes)
    code = _op(_COPY, 6, 1) + _field(form, b"protocol", 2)
    for at, number in enumerate(wanted):
        code += _op(_IF_EQUAL, 1, 0, len(wanted) - at + 1, number)
    code += _LEAVE
    code += _op(_STORE_4, _FRAME, 1, _KEY_AT + 12)
    if b"reason" in form.fields:
        code += _field(form, b"reason", 4)
        for number in sorted(unwanted):
            code += _op(_IF_UNLIKE, 1, 0, 2, number) + _LEAVE
    else:
        code += _op(_SET, 1)
    code += _op(_STORE_4, _FRAME, 1, _KEY_AT + 8)
    code += _field(form, b"location", 8) + _op(_STORE_8, _FRAME, 1, _KEY_AT)

    arguments = _op(0x18, 1, 1, 0, counts) + _op(0) + _op(_COPY, 2, _FRAME)
    arguments += _op(_ADD, 2, 0, 0, _KEY_AT)
    look_up = arguments + _op(_CALL, number=_CALL_LOOKUP)
    create = _op(_STORE_NUMBER, _FRAME, 0, _VALUE_AT) + arguments
    create += _op(_COPY, 3, _FRAME) + _op(_ADD, 3, 0, 0, _VALUE_AT) + _op(_SET, 4, 0, 0, _IF_ABSENT)
    create += _op(_CALL, number=_CALL_UPDATE) + look_up  # another CPU may have been first
    create += _op(_IF_UNLIKE, 0, 0, 2) + _LEAVE
    code += look_up + _op(_IF_UNLIKE, 0, 0, len(create) // 8) + create
    return code + _op(_SET, 1, 0, 0, 1) + _op(_ADD_ATOMIC, 0, 1) + _LEAVE


def _field(form: "Layout", name: bytes, width: int) -> bytes:
    offset, size = form.fields.get(name, (0, 0))
    if size != width or offset % width or not 8 <= offset < 1 << 12:
        raise ValueError("unknown layout of the tracepoint")
    return _op(_LOAD[width], 1, 6, offset)


class Counter:
    """Counts a tracepoint's records from now on, on every CPU, until it is closed.

    Raises OSError, ImportError or ValueError where that cannot be.
    """

    def __init__(
        self, form: "Layout", ethertypes: "Iterable[int]", unwanted: "Iterable[int]"
    ) -> None:
        import ctypes
        import fcntl
        import resource

        machine = posix.uname().machine
        if machine not in _SYSCALLS or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise ValueError("not on " + machine)
        self._ctypes = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._bpf_number, perf_number = _SYSCALLS[machine]
        self._fds: list[int] = []
        try:  # before Linux 5.11 a map counts as locked memory
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
        except (OSError, ValueError):
            pass
        try:
            form_of_map = struct.pack("=7I16s", _HASH, _KEY.size, 8, _MAX_KEYS, 0, 0, 0, _NAME)
            self._counts = self._bpf(_MAP_CREATE, form_of_map)
            self._fds.append(self._counts)
            code = program(form, self._counts, ethertypes, unwanted)
            loaded = self._load(code)
            self._fds.append(loaded)
            # The first form of struct perf_event_attr. One event, on one CPU, is enough to hang
            # the program to the tracepoint, which all CPUs share.
            event = struct.pack("=IIQ48x", _PERF_TRACEPOINT, 64, form.number)
            self._fds.append(self._call(perf_number, event, -1, 0, -1, _CLOEXEC))
            fcntl.ioctl(self._fds[-1], _SET_BPF, loaded)
            fcntl.ioctl(self._fds[-1], _ENABLE, 0)
        except BaseException:
            self.close()
            raise

    def totals(self) -> "dict[tuple[int, int, int], int] | None":
        """How many so far by (location, reason, EtherType); None where it ran out of room."""
        ctypes = self._ctypes
        key, value = ctypes.create_string_buffer(_KEY.size), ctypes.create_string_buffer(8)
        found: dict[tuple[int, int, int], int] = {}
        before = 0  # no key: the first one is asked for
        for _ in range(_MAX_KEYS):
            try:
                self._element(_NEXT_KEY, before, ctypes.addressof(key))
            except FileNotFoundError:
                return found
            before = ctypes.addressof(key)
            self._element(_LOOKUP, before, ctypes.addressof(value))
            found[_KEY.unpack(key.raw)] = int(struct.unpack("=Q", value.raw)[0])
        return None

    def close(self) -> None:
        """Take the program away from the tracepoint."""
        while self._fds:
            posix.close(self._fds.pop())

    def _load(self, code: bytes) -> int:
        ctypes = self._ctypes
        instructions = ctypes.create_string_buffer(code, len(code))
        license_ = ctypes.create_string_buffer(b"GPL")
        form = struct.pack(
            "=IIQQIIQII16s", _TRACEPOINT_PROGRAM, len(code) // 8, ctypes.addressof(instructions),
            ctypes.addressof(license_), 0, 0, 0, 0, 0, _NAME,
        )  # fmt: skip
        return self._bpf(_PROG_LOAD, form)

    def _element(self, command: int, key: int, value: int) -> None:
        self._bpf(command, struct.pack("=IxxxxQQQ", self._counts, key, value, 0))

    def _bpf(self, command: int, form: bytes) -> int:
        ctypes = self._ctypes
        buffer = ctypes.create_string_buffer(form, len(form))
        return self._call(self._bpf_number, command, buffer, len(form))

    def _call(self, number: int, *values: "Any") -> int:
        ctypes = self._ctypes
        numbers = [ctypes.c_long(v) if isinstance(v, int) else v for v in values]
        result = int(self._libc.syscall(ctypes.c_long(number), *numbers))
        if result < 0:
            raise OSError(ctypes.get_errno(), posix.strerror(ctypes.get_errno()))
        return result
