"""Libraries that came with the question: Python source from memory, an extension from a memfd.

Nothing is written to the node's disk. Whoever asks for a library here gets it, or learns why not
and reads the same facts by itself.
"""

import _frozen_importlib as bootstrap
import _frozen_importlib_external as machinery
import binascii
import posix
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NotHereError(Exception):
    """A library that this node cannot run."""


class Shelf:
    """The libraries of one `facts` frame."""

    def __init__(self, parcels: "dict[str, dict[str, Any]]") -> None:
        self._parcels = parcels
        self._open: "set[str]" = set()

    def take(self, name: str) -> str:
        """Make a library importable; its version. Raises NotHereError."""
        parcel = self._parcels.get(name)
        if parcel is None:
            raise NotHereError("was not sent")
        if name not in self._open:
            if sys.version_info < tuple(parcel["python"]):
                raise NotHereError("needs Python %d.%d" % tuple(parcel["python"]))
            files = []
            for wanted in parcel["extensions"]:
                refuse(wanted, posix.uname().machine, _libc())
                files.append((wanted["name"], _memfd(_unpacked(wanted["data"]))))
            sources = eval(_unpacked(parcel["sources"]).decode(), {"__builtins__": {}})  # noqa: S307
            sys.meta_path.append(Finder(sources, dict(files)))
            self._open.add(name)
        return str(parcel["version"])


def refuse(extension: "dict[str, Any]", machine: str, libc: "tuple[str, tuple[int, ...]]") -> None:
    """Raises NotHereError where an extension was made for another kind of machine."""
    name, version = libc
    if extension["machine"] != machine:
        raise NotHereError("is for %s, and this is %s" % (extension["machine"], machine))
    if extension["libc"] != name:
        raise NotHereError("is for %s, and this is %s" % (extension["libc"], name))
    if tuple(extension["libc_version"]) > version:
        raise NotHereError("needs a newer %s" % name)


class Finder:
    """Finds modules in `sources`, by name (is it a package, its text), and extensions in files."""

    def __init__(self, sources: "dict[str, tuple[bool, str]]", files: "dict[str, str]") -> None:
        self._sources = sources
        self._files = files

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        """The import system's question; `path` and `target` do not matter here."""
        del path, target
        if name in self._files:
            loader = machinery.ExtensionFileLoader(name, self._files[name])
            return bootstrap.ModuleSpec(name, loader, origin=self._files[name])
        if name not in self._sources:
            return None
        is_package = self._sources[name][0]
        return bootstrap.ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: "Any") -> None:
        """An ordinary module will do."""

    def exec_module(self, module: "Any") -> None:
        """Run its source."""
        text = self._sources[module.__name__][1]
        exec(compile(text, "<%s>" % module.__name__, "exec"), module.__dict__)  # noqa: S102


def _unpacked(text: str) -> bytes:
    return zlib.decompress(binascii.a2b_base64(text))


def _memfd(data: bytes) -> str:
    create = getattr(posix, "memfd_create", None)
    if create is None:
        raise NotHereError("needs Python 3.8 to be loaded from memory")
    fd = create("preflight")
    while data:
        data = data[posix.write(fd, data) :]
    return "/proc/self/fd/%d" % fd


def _libc() -> "tuple[str, tuple[int, ...]]":
    try:
        name, version = (posix.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):  # musl has no such name
        return "musl", (0, 0)
    return name, tuple(int(part) for part in version.split(".")[:2])
