"""Speed, duplex and bus driver of a device, from /sys/class/net."""

import posix

from preflight.agent.facts import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read(device: str) -> "dict[str, Any]":
    """Speed in Mbit/s and duplex; None where the device does not say. Never raises."""
    folder = "/sys/class/net/" + device
    try:
        driver = posix.readlink(folder + "/device/driver").rpartition("/")[2]
    except OSError:
        driver = None
    return {
        "speed": parse_speed(_text(folder + "/speed")),
        "duplex": parse_duplex(_text(folder + "/duplex")),
        "bus_driver": driver,
    }


def _text(path: str) -> str:
    try:
        return files.text(path)
    except OSError:  # EINVAL of a device that is down or has none
        return ""


def parse_speed(text: str) -> "int | None":
    """Mbit/s; -1 and 4294967295 stand for not known."""
    try:
        speed = int(text)
    except ValueError:
        return None
    return speed if 0 < speed < 0xFFFFFFFF else None


def parse_duplex(text: str) -> "str | None":
    """`full` or `half`."""
    word = text.strip()
    return word if word in ("full", "half") else None
