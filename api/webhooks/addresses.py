"""Which addresses a webhook may go to: no URL of a tenant's reaches this machine or its network unless the operator says so."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal
from urllib.parse import urlsplit

Reach = Literal["public", "any"]

# A v4 address inside a v6 one, as translators of networks read it.
_NAT64 = IPv6Network("64:ff9b::/96")
_MAX_URL = 2000


class Forbidden(ValueError):
    """A URL that is no webhook's. The message says why and names no address."""


def check_url(url: str, reach: Reach) -> None:
    """See that a URL can be one at all: https, or http where the operator allows any address. Raises Forbidden."""
    if len(url) > _MAX_URL or not url.isascii() or any(character <= " " for character in url):
        raise Forbidden(f"it must be at most {_MAX_URL} plain ASCII characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Forbidden("it is not a URL") from None
    if parts.scheme != "https" and not (reach == "any" and parts.scheme == "http"):
        raise Forbidden("it must begin with https://")
    if not host or "@" in parts.netloc or parts.fragment:
        raise Forbidden("it must be https://HOST/PATH, without user or fragment")


def resolved(host: str, port: int, reach: Reach) -> list[str]:
    """The addresses of a host, every one of them allowed. Raises Forbidden, and OSError where the host has none.

    Whoever connects takes one of these: to look the name up again would let it mean something else.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if reach == "public" and not all(is_public(address) for address in addresses):
        raise Forbidden("its host is at an address that is not public")
    return addresses


def is_public(address: str) -> bool:
    """Whether the whole internet means the same machine by this address."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast
