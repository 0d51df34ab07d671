"""The address of whoever sent a request, also when it came by way of proxies."""

import ipaddress

from aiohttp import hdrs, web

# What a provider gives one customer: within it, addresses cost nothing.
IPV6_CUSTOMER = 64


def client_address(request: web.BaseRequest, *, hops: int) -> str:
    """Return the client's address, or its network where it has a whole one (IPv6).

    `hops` is how many proxies stand before this process. Each adds the address it was called
    from to the right of X-Forwarded-For; what is further left is the client's own invention.
    """
    peer = request.remote or ""
    if hops == 0:
        return _network(peer) or peer
    forwarded = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
    # Fewer entries than proxies: it came from between them.
    nearest = forwarded[-hops] if len(forwarded) >= hops else forwarded[0]
    return _network(nearest.strip()) or _network(peer) or peer


def _network(text: str) -> str | None:
    """Return the address in one spelling, or None for what is none."""
    try:
        address = ipaddress.ip_address(text.removeprefix("[").partition("]")[0].partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_CUSTOMER), strict=False))
