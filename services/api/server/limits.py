"""How often a caller may call: signed-in users by their id, everybody else by address."""

import hashlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import structlog
from aiohttp import hdrs, web

from services.api.server.routing import Call
from services.api.settings import LimitSettings, Rate
from services.api.storage.rate_limits import Limit, RateLimits, Usage
from services.api.web.endpoint import Access
from services.api.web.problems import Problem
from shared.domain.lead import email_key

POLICY_HEADER = "RateLimit-Policy"
USAGE_HEADER = "RateLimit"
# What a provider gives one customer: within it, addresses cost nothing.
IPV6_CUSTOMER = 64
# IPv4 addresses as a translator to IPv6 writes them (RFC 6052).
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
# Around an address in a list; proxies put some in quotes.
BLANK = " \t\"'"
LONGEST_FORM = 60

log = structlog.get_logger(__name__)

_letters, _digits = re.compile(r"[^\W\d_]+"), re.compile(r"\d+")

# Makes what counts against a limit, over the Redis that all processes share.
Counting: TypeAlias = Callable[[Limit], RateLimits]


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit, and the headers that describe it (draft-ietf-httpapi-ratelimit-headers-10)."""

    name: str
    limits: RateLimits
    policy: str

    @classmethod
    def of(cls, counting: Counting, name: str, rate: Rate) -> "Quota":
        """Return the quota that `name` stands for in Redis and in headers."""
        policy = f'"{name}";q={rate.calls};w={round(rate.span.total_seconds())}'
        return cls(name, counting(Limit(name, rate.calls, rate.span)), policy)

    def headers(self, usage: Usage) -> tuple[tuple[str, str], ...]:
        """Return what the answer says of its caller's usage."""
        value = f'"{self.name}";r={usage.remaining};t={usage.seconds_left()}'
        return ((POLICY_HEADER, self.policy), (USAGE_HEADER, value))


class CallLimits:
    """Counts the calls of routes that are limited."""

    def __init__(self, users: Quota, addresses: Quota, clients: "ClientAddresses") -> None:
        self._users = users
        self._addresses = addresses
        self._clients = clients

    @classmethod
    def of(
        cls, counting: Counting, settings: LimitSettings, clients: "ClientAddresses"
    ) -> "CallLimits | None":
        """Return the limits that are set, unless they are switched off."""
        if settings.rate_limit is None:
            return None
        return cls(
            Quota.of(counting, "user", settings.rate_limit),
            Quota.of(counting, "address", settings.rate_limit_address),
            clients,
        )

    def spend_leased(self, call: Call, access: Access) -> bool:
        """Count a call; False when the caller has no lease left and `spend` has to ask Redis."""
        quota, caller = self._caller(call, access)
        usage = quota.limits.spend_leased(caller)
        if usage is None:
            return False
        call.limit_headers = quota.headers(usage)
        return True

    async def spend(self, call: Call, access: Access) -> None:
        """Count a call; raises `Problem` 429."""
        quota, caller = self._caller(call, access)
        is_allowed, usage = await quota.limits.spend(caller)
        call.limit_headers = quota.headers(usage)
        if not is_allowed:
            raise _refusal(usage)

    def _caller(self, call: Call, access: Access) -> tuple[Quota, str]:
        if access is Access.USER:
            return self._users, call.user.id
        return self._addresses, self._clients.client_of(call.request)


class LoginLimits:
    """Counts attempts to log in before the auth server hears of them: it sees one address only.

    By account, so that a password cannot be guessed from many addresses, and by address, so that
    one password cannot be tried on many accounts. Whether an account exists makes no difference.
    """

    def __init__(
        self, counting: Counting, settings: LimitSettings, clients: "ClientAddresses"
    ) -> None:
        self._is_on = settings.rate_limit is not None
        self._accounts = Quota.of(counting, "login-account", settings.login_limit)
        self._addresses = Quota.of(counting, "login-address", settings.login_limit_address)
        self._clients = clients

    async def count_attempt(self, call: Call, *, email: str) -> None:
        """Count an attempt; raises `Problem` 429."""
        if not self._is_on:
            return
        address = self._clients.client_of(call.request)
        for quota, caller in ((self._addresses, address), (self._accounts, _account(email))):
            is_allowed, usage = await quota.limits.spend(caller)
            if not is_allowed:
                raise _refusal(usage)

    async def return_attempt(self, call: Call, *, email: str) -> None:
        """Count an attempt no longer: no password was tried."""
        if not self._is_on:
            return
        await self._addresses.limits.give_back(self._clients.client_of(call.request))
        await self._accounts.limits.give_back(_account(email))

    async def reset_attempts(self, call: Call, *, email: str) -> None:
        """Give an account whose owner has logged in all its attempts again, and the address one."""
        if not self._is_on:
            return
        await self._addresses.limits.give_back(self._clients.client_of(call.request))
        await self._accounts.limits.reset(_account(email))

    def sender_address(self, call: Call) -> str | None:
        """Return the address that counts for the caller, for the auth server to count by too."""
        address = self._clients.client_of(call.request).partition("/")[0]
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            return None


class ClientAddresses:
    """Tells which client a request is from, with `hops` proxies in front of this process.

    Each proxy adds the address it was called from to the right of X-Forwarded-For; what is further
    left is the client's own invention.
    """

    def __init__(self, *, hops: int) -> None:
        self._hops = hops
        self._warnings = {"http.forwarded_unreadable", "http.not_forwarded"}

    def client_of(self, request: web.BaseRequest) -> str:
        """Return the client's address, or its network where it has a whole one (IPv6).

        A name that is no address stands for a client of its own: never for the proxy, whose limit
        all clients would then share.
        """
        peer = request.remote or ""
        if self._hops == 0:
            return _network(peer) or peer
        headers = request.headers.getall(hdrs.X_FORWARDED_FOR, None)
        if headers is None:
            self._warn("http.not_forwarded", hops=self._hops)
            return _network(peer) or peer
        nodes = [node for part in ",".join(headers).split(",") if (node := part.strip(BLANK))]
        # Fewer than there are proxies: it came from between them.
        nearest = nodes[-min(self._hops, len(nodes))] if nodes else ""
        return _network(nearest) or self._unreadable(nearest)

    def _unreadable(self, node: str) -> str:
        name, _, port = node.lower().rpartition(":")
        if not name or not port.isdigit():
            name = node.lower()
        # Its form, and not what it says of somebody.
        form = _letters.sub("a", _digits.sub("9", name))[:LONGEST_FORM]
        self._warn("http.forwarded_unreadable", form=form)
        return f"unreadable-{hashlib.sha256(name.encode(errors='replace')).hexdigest()}"

    def _warn(self, event: str, **fields: object) -> None:
        """Log once in the life of the process: it comes with every request."""
        if event in self._warnings:
            self._warnings.remove(event)
            log.warning(event, setting="FORWARDED_HOPS", **fields)


def _network(node: str) -> str | None:
    """Return the address of `address`, `address:port`, `[address]` or `[address]:port`.

    In one spelling, and without the zone of IPv6; None for what has no address.
    """
    address = _address(node) or _address(node.rpartition(":")[0])
    if address is None or isinstance(address, ipaddress.IPv4Address):
        return None if address is None else str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address in TRANSLATED:
        return str(ipaddress.IPv4Address(address.packed[-4:]))
    return str(ipaddress.ip_network((address, IPV6_CUSTOMER), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    has_brackets = text.startswith("[") and text.endswith("]")
    try:
        return ipaddress.ip_address((text[1:-1] if has_brackets else text).partition("%")[0])
    except ValueError:
        return None


def _refusal(usage: Usage) -> Problem:
    wait = usage.seconds_left()
    return Problem(
        "rate-limited",
        f"Too many requests: try again in {wait} seconds",
        headers={"Retry-After": str(wait)},
    )


def _account(email: str) -> str:
    # No e-mail address stands in Redis in plain text.
    return hashlib.sha256(email_key(email).encode()).hexdigest()
