"""What may be behind a connection that stands and on which nothing large arrives."""

_HEADERS = {False: 28, True: 48}  # IPv4 or IPv6, and ICMP
_ETHERNET = 1500


def narrow(host: str) -> str:
    """A guess to end a message with, and what shows whether it is right. No full stop.

    It does not name the host, so that one path's nodes are told as one. Small packets pass, so TCP
    connects, and even an SSH login may do.
    """
    size = _ETHERNET - _HEADERS[":" in host]
    return (
        "full-size packets may be lost on the way there (an MTU black hole: then `ping -M do -s "
        f"{size} NODE` is not answered, a plain ping is)"
    )
