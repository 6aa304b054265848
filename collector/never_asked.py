"""Addresses that are never asked, however they are written: a cloud's metadata and link-local ones.

A machine's metadata service hands out its credentials to whoever asks. A target file, an answer of
a discovery, a redirect or a name server could lead there, so both what is written and who answered
are looked at.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from store.errors import BadInput

_NAMES = frozenset({"metadata.google.internal", "metadata", "instance-data"})
# Outside the link-local networks: AWS over IPv6, Alibaba, Azure.
_METADATA = frozenset(
    map(ip_address, ("fd00:ec2::254", "fd00:ec2::23", "100.100.100.200", "168.63.129.16"))
)
_NAT64 = IPv6Network("64:ff9b::/96")


def is_never_asked(host: str) -> bool:
    """Whether a host, a name or an address in any notation, is one of them.

    >>> [is_never_asked(host) for host in ("169.254.169.254", "2852039166", "0xa9.254.43518")]
    [True, True, True]
    >>> is_never_asked("::ffff:169.254.169.254"), is_never_asked("127.0.0.1")
    (True, False)
    """
    bare = host.strip("[]").partition("%")[0].rstrip(".").lower()
    if bare in _NAMES:
        return True
    address = _address(bare)
    return address is not None and (address.is_link_local or address in _METADATA)


def check_written(host: str) -> None:
    """Refuse a host before it is asked.

    Raises:
        BadInput: It is never asked.
    """
    if is_never_asked(host):
        raise BadInput(
            f"{host[:60]} is never asked: it is link-local, or a cloud's metadata",
            hint="name another host",
        )


def check_answering(response: httpx.Response) -> None:
    """Refuse an answer, unread, of a server that a name led to.

    Raises:
        BadInput: Its address is never asked.
    """
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    if isinstance(peer, tuple) and peer:
        check_written(str(peer[0]))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        try:
            # One number, octal and hexadecimal parts: what resolvers take for an address.
            found = ip_address(socket.inet_aton(text))
        except (OSError, ValueError):
            return None
    if isinstance(found, IPv6Address):
        if found in _NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
        return found.ipv4_mapped or found.sixtofour or found
    return found
