"""Network namespaces by name, as `ip netns` keeps them, and threads that work inside one.

A namespace belongs to a thread, not to a process: a thread that has entered one creates sockets,
starts processes and sees /proc/sys/net there, while the rest of the program stays where it was. So
nothing is forked to build a lab.
"""

import ctypes
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TypeVar

from preflight.errors import LabError

NAMESPACES = Path("/run/netns")  # iproute2's directory: a name here is what `ip netns` shows

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def existing() -> list[str]:
    """The names of all network namespaces of this machine that have one."""
    try:
        return sorted(os.listdir(NAMESPACES))
    except FileNotFoundError:
        return []


def is_prepared() -> bool:
    """True where the directory of names is a mount point, as it must be before the first one.

    It is made a shared one then, as `ip netns` does: a name that is removed goes away in every
    mount namespace that copied it.
    """
    return not _libc.mount(b"none", os.fsencode(NAMESPACES), b"none", _MS_SHARED | _MS_REC, None)


def prepare() -> None:
    """Make the directory of names a shared mount point. Raises LabError."""
    NAMESPACES.mkdir(mode=0o755, exist_ok=True)
    if not is_prepared():
        _mount(str(NAMESPACES), str(NAMESPACES), _MS_BIND | _MS_REC)
        _mount("none", str(NAMESPACES), _MS_SHARED | _MS_REC)


def unprepare() -> None:
    """Undo `prepare`, unless somebody has a namespace there."""
    if existing():
        return
    # Not lazily: it fails where a namespace was added this moment, and then must stay.
    _libc.umount2(os.fsencode(NAMESPACES), 0)
    with suppress(OSError):
        NAMESPACES.rmdir()


def create(names: Iterable[str], sysctls: Callable[[str], Mapping[str, str]]) -> None:
    """Make a namespace for each name. `sysctls(name)` are set in it at once, before any device.

    A sysctl is a path below /proc/sys; one that this kernel does not have is left out.
    Raises LabError.
    """

    def make() -> None:
        for name in names:
            _check(_libc.unshare(_CLONE_NEWNET), f"create namespace {name}")
            path = NAMESPACES / name
            path.touch(mode=0o444, exist_ok=False)
            # Not /proc/self: that is the main thread, which is in another namespace.
            _mount("/proc/thread-self/ns/net", str(path), _MS_BIND)
            for key, value in sysctls(name).items():
                setting = Path("/proc/sys", key)
                if setting.exists():
                    setting.write_text(value, encoding="ascii")

    _in_thread(make)


def remove(name: str) -> None:
    """Take a namespace's name away; it ends with its last process and socket."""
    path = NAMESPACES / name
    _libc.umount2(os.fsencode(path), _MNT_DETACH)  # fails where it never was mounted
    path.unlink(missing_ok=True)


def inside(name: str, function: Callable[[], T]) -> T:
    """What `function` returns, or raises, when called inside the namespace `name`.

    It runs in a thread of its own: sockets it opens stay in that namespace, processes it starts
    too. Raises LabError where there is no such namespace.
    """

    def enter() -> T:
        try:
            with (NAMESPACES / name).open("rb") as file:
                _check(_libc.setns(file.fileno(), _CLONE_NEWNET), f"enter namespace {name}")
        except FileNotFoundError as exc:
            raise LabError(f"there is no namespace {name}: preflight lab status") from exc
        return function()

    return _in_thread(enter)


def _in_thread(function: Callable[[], T]) -> T:
    """Call `function` in a new thread, which takes its namespace with it when it ends."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as exc:
            future.set_exception(exc)

    thread = Thread(target=call, name="namespace")
    thread.start()
    try:
        return future.result()
    finally:
        thread.join()  # also on Ctrl-C: nobody may tear down while this still builds


def _mount(source: str, target: str, flags: int) -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), b"none", flags, None), f"mount on {target}"
    )


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        needs = " (the lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN)" if number == 1 else ""
        raise LabError(f"cannot {what}: {os.strerror(number)}{needs}")
