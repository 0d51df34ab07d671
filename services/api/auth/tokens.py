"""Reading an access token: its form, its signature and its claims."""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

# Pinned: what a token's own header asks for decides nothing.
ASYMMETRIC = frozenset({"ES256", "RS256", "EdDSA"})
SYMMETRIC = "HS256"
ACCEPTED = ASYMMETRIC | {SYMMETRIC}
HEADER_NAMES = frozenset({"alg", "kid", "typ"})
AUDIENCE = "authenticated"
ROLE = "authenticated"
LEEWAY = timedelta(seconds=30)
PARTS = 3
END_OF_TIME = 1e11

VerificationKey = ECKey | RSAKey | OKPKey | OctKey


class InvalidTokenError(Exception):
    """The token proves nothing; the message says why, in words for the caller."""


class InvalidSignatureError(InvalidTokenError):
    """The key at hand did not sign it."""


class ForeignIssuerError(InvalidTokenError):
    """It says that somebody else issued it: who, is in `issuer`."""

    def __init__(self, issuer: object) -> None:
        super().__init__("The token is from another issuer")
        self.issuer = issuer


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user of the Supabase project; `id` is the token's `sub`."""

    id: str


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """What the token says of its own signature."""

    alg: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that holds: whose it is, until when (seconds since 1970), and which session's."""

    user: User
    expires_at: float
    session: str = ""


def read_header(token: str) -> TokenHeader:
    """Return the header of a well-formed token; raises `InvalidTokenError`."""
    parts = token.split(".")
    if len(parts) != PARTS or not all(_is_canonical(part) for part in parts):
        raise InvalidTokenError("The token is malformed")
    header = _json_object(parts[0])
    # An allowlist: `jku`, `jwk`, `x5u` and `x5c` offer keys of the sender's choice, and
    # `crit` and `b64` change what is signed.
    if not header.keys() <= HEADER_NAMES or str(header.get("typ", "JWT")).upper() != "JWT":
        raise InvalidTokenError("The token's header is not acceptable")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or not isinstance(kid, str | None):
        raise InvalidTokenError("The token's header is not acceptable")
    return TokenHeader(alg, kid)


def verify(
    token: str, key: VerificationKey, *, issuers: Collection[str], now: float
) -> VerifiedToken:
    """Check signature, then claims; raises `InvalidTokenError`."""
    try:
        claims = jwt.decode(token, key, registry=_registry).claims
    except (JoseError, ValueError) as error:
        raise InvalidSignatureError("The token's signature is not valid") from error
    return check_claims(claims, issuers=issuers, now=now)


def unverified_claims(token: str) -> dict[str, Any]:
    """Return the claims of a well-formed token whose signature has been checked elsewhere."""
    return _json_object(token.split(".")[1])


def check_claims(
    claims: Mapping[str, Any], *, issuers: Collection[str], now: float
) -> VerifiedToken:
    """Return whose token it is; raises `InvalidTokenError`."""
    expires_at = _time_claim(claims, "exp")
    if expires_at is None:
        raise InvalidTokenError("The token does not expire")
    if expires_at + LEEWAY.total_seconds() <= now:
        raise InvalidTokenError("The token has expired")
    for name in ("nbf", "iat"):
        since = _time_claim(claims, name)
        if since is not None and since - LEEWAY.total_seconds() > now:
            raise InvalidTokenError("The token is not valid yet")
    if not _is_one_of(claims.get("iss"), issuers):
        raise ForeignIssuerError(claims.get("iss"))
    for holds, message in _identity_rules(claims):
        if not holds:
            raise InvalidTokenError(message)
    session = claims.get("session_id")
    return VerifiedToken(
        User(claims["sub"]),
        expires_at + LEEWAY.total_seconds(),
        session if isinstance(session, str) else "",
    )


def _identity_rules(claims: Mapping[str, Any]) -> tuple[tuple[bool, str], ...]:
    subject, audience = claims.get("sub"), claims.get("aud")
    return (
        (audience in (AUDIENCE, [AUDIENCE]), "The token is for another audience"),
        (claims.get("role") == ROLE, "The token is not a signed-in user's"),
        (claims.get("is_anonymous") in (None, False), "The token is an anonymous user's"),
        (isinstance(subject, str) and bool(subject), "The token names no user"),
    )


def _is_one_of(value: object, accepted: Collection[str]) -> bool:
    return isinstance(value, str) and value.rstrip("/") in accepted


def _time_claim(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # A bool is an int, and neither NaN nor infinity ever expires.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTokenError(f"The token's {name} is not a time")
    if not 0 <= value < END_OF_TIME:
        raise InvalidTokenError(f"The token's {name} is not a time")
    return float(value)


def _is_canonical(part: str) -> bool:
    """Whether decoding and encoding gives the part back: one token has one spelling."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=") == part.encode()


def _json_object(part: str) -> dict[str, Any]:
    try:
        value: object = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError) as error:
        raise InvalidTokenError("The token is malformed") from error
    if not isinstance(value, dict):
        raise InvalidTokenError("The token is malformed")
    return cast("dict[str, Any]", value)


class PinnedAlgorithms(JWSRegistry):
    """The accepted algorithms.

    The library warns of the name EdDSA with each token, since it leaves the curve open; here
    the key decides the curve.
    """

    def get_alg(self, name: str) -> Any:
        """Return the algorithm; raises a `JoseError` for any other."""
        if name not in ACCEPTED:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


_registry = PinnedAlgorithms()
