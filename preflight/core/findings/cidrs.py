"""Addresses as CIDRs: what a firewall's rule takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address
from typing import NamedTuple

from preflight.core.model import Family, family_of

MANY = 8  # CIDRs in one rule that people still read; above, whole subnets are asked for
_BITS = {Family.IPV4: 32, Family.IPV6: 128}
_SHORTEST = {32: 24, 128: 64}  # prefix lengths: nodes further apart are not on one subnet
_FILLED = 16  # of an IPv4 subnet's addresses at least one in so many is a node's


class Cidrs(NamedTuple):
    """Some addresses of one family."""

    texts: tuple[str, ...]  # ascending
    exact: bool  # False: they hold addresses that are no node's


def exactly(addresses: Iterable[str]) -> tuple[str, ...]:
    """The fewest CIDRs that hold these addresses and no other, ascending, IPv4 first.

    Raises ValueError for what is no address.
    """
    numbers = _numbers(addresses)
    return tuple(
        text
        for family, bits in _BITS.items()
        for text in _merged(family, ((number, bits) for number in numbers[family]))
    )


def subnets(addresses: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    """CIDRs that hold all these addresses and none of `others`, as few as look like subnets.

    Addresses share one where they fill it well; it is their own common prefix, at least /24 or
    /64. Such subnets side by side become one. Raises ValueError for what is no address.
    """
    wanted, unwanted = _numbers(addresses), _numbers(others)
    return tuple(
        text
        for family, bits in _BITS.items()
        for text in _merged(
            family,
            _shared(sorted(wanted[family]), sorted(unwanted[family] - wanted[family]), bits),
        )
    )


def cidrs(addresses: Collection[str], others: Collection[str]) -> Cidrs:
    """These addresses as CIDRs: exactly, or, where that would be too many, as subnets."""
    exact = exactly(addresses)
    if len(exact) <= MANY:
        return Cidrs(exact, True)
    wide = subnets(addresses, others)
    return Cidrs(wide, wide == exact)


def _shared(numbers: list[int], others: list[int], bits: int) -> Iterator[tuple[int, int]]:
    """First address and prefix length of each subnet; numbers are ascending."""
    if not numbers:
        return
    common = bits - (numbers[0] ^ numbers[-1]).bit_length()
    low = numbers[0] >> (bits - common) << (bits - common)
    high = low + (1 << (bits - common)) - 1
    fits = common >= _SHORTEST[bits]
    filled = bits == 128 or len(numbers) * _FILLED >= high - low + 1
    if fits and filled and not any(low <= other <= high for other in others):
        yield low, common
        return
    middle = low + (1 << (bits - common - 1))
    yield from _shared([n for n in numbers if n < middle], others, bits)
    yield from _shared([n for n in numbers if n >= middle], others, bits)


def _numbers(addresses: Iterable[str]) -> dict[Family, set[int]]:
    numbers: dict[Family, set[int]] = {family: set() for family in Family}
    for address in addresses:
        numbers[family_of(address)].add(int(ip_address(address)))
    return numbers


def _merged(family: Family, blocks: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Blocks given by first address and prefix length, those side by side as one."""
    if family is Family.IPV4:
        yield from map(str, collapse_addresses(map(IPv4Network, blocks)))
    else:
        yield from map(str, collapse_addresses(map(IPv6Network, blocks)))
