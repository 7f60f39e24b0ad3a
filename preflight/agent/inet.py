"""IP addresses between text and packets; families are told as 4 and 6."""

import _socket as socket


def domain(family: int) -> int:
    """The kernel's number of an address family."""
    return socket.AF_INET if family == 4 else socket.AF_INET6


def packed(family: int, address: str) -> bytes:
    """An address as it stands in a packet."""
    return socket.inet_pton(domain(family), address)


def text(address: bytes) -> str:
    """The reverse of `packed`."""
    return socket.inet_ntop(domain(len(address)), address)
