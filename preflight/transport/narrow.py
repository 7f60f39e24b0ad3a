"""What may be behind a connection that stands and on which nothing large arrives."""

import ipaddress
import socket

_HEADERS = {4: 28, 6: 48}  # IP and ICMP
_ETHERNET = 1500
_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}  # IP_MTU, IPV6_MTU on Linux


def narrow(*hosts: str) -> str:
    """A guess to end a message with, and what shows whether it is right. No full stop.

    It does not name the host, so that one path's nodes are told as one. Small packets pass, so TCP
    connects, and even an SSH login may do. `hosts` are the node's names or addresses: what is full
    size is asked of this machine's route to the first that is an address.
    """
    version, mtu = 6 if ":" in hosts[0] else 4, _ETHERNET
    for host in hosts:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            continue
        version = address.version
        if address.is_loopback:  # something carries it on from here, nobody knows where
            continue
        mtu = mtu_to(host) or _ETHERNET
        break
    return (
        "full-size packets may be lost on the way there (an MTU black hole: then `ping -M do -s "
        f"{mtu - _HEADERS[version]} NODE` is not answered, a plain ping is)"
    )


def mtu_to(address: str) -> int:
    """Bytes of the largest packet that this machine's kernel sends there; 0 if not known.

    Nothing is sent, and no name looked up.
    """
    six = ":" in address
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((address, 9))
            return one.getsockopt(*_MTU[6 if six else 4])
    except OSError:
        return 0
