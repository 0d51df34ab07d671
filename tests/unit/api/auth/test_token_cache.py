"""Remembering verified headers: bounded, and no longer than they hold."""

from services.api.auth.tokens import User, VerifiedToken
from services.api.auth.verifier import TokenCache

ADA = User("ada")


def test_a_header_is_remembered_until_it_expires() -> None:
    cache = TokenCache()
    cache.put("header", VerifiedToken(ADA, expires_at=100.0))
    assert cache.get("header", now=99.9) == ADA
    assert cache.get("header", now=100.0) is None


def test_what_is_used_stays_and_the_rest_goes() -> None:
    cache = TokenCache(generation=10)
    cache.put("used", VerifiedToken(ADA, expires_at=100.0))
    cache.put("unused", VerifiedToken(ADA, expires_at=100.0))
    for number in range(50):
        cache.put(f"other {number}", VerifiedToken(ADA, expires_at=100.0))
        assert cache.get("used", now=0.0) == ADA
    assert cache.get("unused", now=0.0) is None


def test_it_never_holds_more_than_two_generations() -> None:
    cache = TokenCache(generation=10)
    for number in range(1000):
        cache.put(f"header {number}", VerifiedToken(ADA, expires_at=100.0))
    held = sum(cache.get(f"header {number}", now=0.0) is not None for number in range(1000))
    assert held <= 20


def test_large_headers_are_fewer() -> None:
    cache = TokenCache()
    headers = [f"{number}".rjust(16_000) for number in range(3_000)]
    for header in headers:
        cache.put(header, VerifiedToken(ADA, expires_at=100.0))
    held = sum(len(header) for header in headers if cache.get(header, now=0.0) is not None)
    assert 8 << 20 <= held < 25 << 20
