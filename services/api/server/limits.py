"""How often a caller may call: signed-in users by their id, everybody else by address."""

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

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

    def __init__(self, users: Quota, addresses: Quota, *, hops: int) -> None:
        self._users = users
        self._addresses = addresses
        self._hops = hops

    @classmethod
    def of(cls, counting: Counting, settings: LimitSettings) -> "CallLimits | None":
        """Return the limits that are set, unless they are switched off."""
        if settings.rate_limit is None:
            return None
        return cls(
            Quota.of(counting, "user", settings.rate_limit),
            Quota.of(counting, "address", settings.rate_limit_address),
            hops=settings.forwarded_hops,
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
        return self._addresses, client_address(call.request, hops=self._hops)


class LoginLimits:
    """Counts attempts to log in before the auth server hears of them: it sees one address only.

    By account, so that a password cannot be guessed from many addresses, and by address, so that
    one password cannot be tried on many accounts. Whether an account exists makes no difference.
    """

    def __init__(self, counting: Counting, settings: LimitSettings) -> None:
        self._is_on = settings.rate_limit is not None
        self._accounts = Quota.of(counting, "login-account", settings.login_limit)
        self._addresses = Quota.of(counting, "login-address", settings.login_limit_address)
        self._hops = settings.forwarded_hops

    async def count_attempt(self, call: Call, *, email: str) -> None:
        """Count an attempt; raises `Problem` 429."""
        if not self._is_on:
            return
        address = client_address(call.request, hops=self._hops)
        for quota, caller in ((self._addresses, address), (self._accounts, _account(email))):
            is_allowed, usage = await quota.limits.spend(caller)
            if not is_allowed:
                raise _refusal(usage)

    async def reset_attempts(self, *, email: str) -> None:
        """Give an account whose owner has logged in all its attempts again."""
        if self._is_on:
            await self._accounts.limits.reset(_account(email))


def client_address(request: web.BaseRequest, *, hops: int) -> str:
    """Return the client's address, or its network where it has a whole one (IPv6).

    `hops` is how many proxies there are in front of this process. Each adds the address it was
    called from to the right of X-Forwarded-For; what is further left is the client's own invention.
    """
    peer = request.remote or ""
    if hops == 0:
        return _network(peer) or peer
    forwarded = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
    # Fewer entries than proxies: it came from between them.
    nearest = forwarded[-hops] if len(forwarded) >= hops else forwarded[0]
    return _network(nearest.strip()) or _network(peer) or peer


def _network(text: str) -> str | None:
    """Return the address in one spelling, or None for text that is not an address."""
    try:
        address = ipaddress.ip_address(text.removeprefix("[").partition("]")[0].partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_CUSTOMER), strict=False))


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
