"""Tokens that prove nothing, each in a way of its own."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.support.auth_server import AuthServer

Forge = Callable[[AuthServer], str]

HOUR = 3600
NOT_UTF8 = b'{"alg":"\xff"}'


def forgeries() -> dict[str, Forge]:
    """Return every forgery by name."""
    return {
        **_of_form(),
        **_of_algorithm(),
        **_of_key(),
        **_of_header(),
        **_of_claims(),
        **dict(_tampered()),
    }


def encoded(value: object) -> str:
    """Return one part of a token."""
    return _base64(json.dumps(value).encode())


def by_hand(header: dict[str, Any], claims: dict[str, Any], *, secret: bytes) -> str:
    """Return a token with an HMAC signature, whatever its header says."""
    signed = f"{encoded(header)}.{encoded(claims)}"
    return f"{signed}.{_base64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _of_form() -> dict[str, Forge]:
    return {
        "empty": lambda _auth: "",
        "one part": lambda _auth: "abc",
        "two parts": lambda auth: auth.token().rpartition(".")[0],
        "four parts": lambda auth: f"{auth.token()}.abc",
        "no signature": lambda auth: f"{auth.token().rpartition('.')[0]}.",
        "not base64": lambda auth: f"{auth.token()}!",
        "padded": lambda auth: f"{auth.token()}==",
        "header no JSON": lambda auth: f"{_base64(b'nonsense')}.{auth.token().partition('.')[2]}",
        "header an array": lambda auth: f"{encoded([])}.{auth.token().partition('.')[2]}",
        "header not UTF-8": lambda _auth: f"{_base64(NOT_UTF8)}.e30.e30",
        "nested too deep": lambda _auth: f"{_base64(b'[' * 5000)}.e30.e30",
        "an API key": lambda _auth: "sb_secret_tests",
    }


def _of_algorithm() -> dict[str, Forge]:
    def unsigned(alg: str) -> Forge:
        return lambda auth: f"{encoded({'alg': alg, 'typ': 'JWT'})}.{encoded(auth.claims())}."

    def symmetric(alg: str, kid: str | None) -> Forge:
        def forge(auth: AuthServer) -> str:
            header = {"alg": alg, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
            return by_hand(header, auth.claims(), secret=auth.key.as_pem(private=False))

        return forge

    return {
        "alg none": unsigned("none"),
        "alg None": unsigned("None"),
        "alg NONE": unsigned("NONE"),
        "alg empty": unsigned(""),
        "HS256 with the public key": symmetric("HS256", None),
        "HS256 with the public key and its kid": symmetric("HS256", "current"),
        "ES256 with an HMAC": symmetric("ES256", "current"),
        "HS256 with an empty secret": lambda auth: by_hand(
            {"alg": "HS256"}, auth.claims(), secret=b""
        ),
        "HS512": lambda auth: auth.token(key=OctKey.generate_key(512), header={"alg": "HS512"}),
        "RS256 with the EC key's kid": lambda auth: auth.token(
            key=RSAKey.generate_key(2048), header={"alg": "RS256", "kid": "current"}
        ),
        "ES384": lambda auth: auth.token(
            key=ECKey.generate_key("P-384"), header={"alg": "ES384", "kid": "current"}
        ),
        "alg a number": lambda auth: by_hand({"alg": 1}, auth.claims(), secret=b"x"),
        "no alg": lambda auth: by_hand({"typ": "JWT"}, auth.claims(), secret=b"x"),
    }


def _of_key() -> dict[str, Forge]:
    def with_kid(kid: Any) -> Forge:
        return lambda auth: auth.token(
            key=ECKey.generate_key("P-256"), header={"alg": "ES256", "kid": kid}
        )

    return {
        "another key under the right kid": with_kid("current"),
        "unknown kid": with_kid("unknown"),
        "kid a path": with_kid("../../../../dev/null"),
        "kid an URL": with_kid("https://evil.example/jwks.json"),
        "kid SQL": with_kid("x' UNION SELECT 'secret' --"),
        "kid empty": with_kid(""),
        "no kid": lambda auth: auth.token(header={"alg": "ES256"}),
        "kid a number": lambda auth: by_hand(
            {"alg": "ES256", "kid": 1}, auth.claims(), secret=b"x"
        ),
        "kid an object": lambda auth: by_hand(
            {"alg": "ES256", "kid": {}}, auth.claims(), secret=b"x"
        ),
    }


def _of_header() -> dict[str, Forge]:
    def with_header(**names: Any) -> Forge:
        return lambda auth: auth.token(header={"alg": "ES256", "kid": "current", **names})

    def with_own_key(auth: AuthServer) -> str:
        key = ECKey.generate_key("P-256")
        return auth.token(
            key=key, header={"alg": "ES256", "kid": "current", "jwk": key.as_dict(private=False)}
        )

    return {
        "jwk of the sender": with_own_key,
        "jku": with_header(jku="https://evil.example/jwks.json"),
        "x5u": with_header(x5u="https://evil.example/chain.pem"),
        "x5c": with_header(x5c=["MIIB"]),
        "crit unknown": lambda auth: by_hand(
            {"alg": "ES256", "kid": "current", "crit": ["exp"], "exp": 1},
            auth.claims(),
            secret=b"x",
        ),
        "cty JWT": with_header(cty="JWT"),
        "typ another": with_header(typ="at+jwt"),
    }


def _of_claims() -> dict[str, Forge]:
    def with_claims(**changes: Any) -> Forge:
        return lambda auth: auth.token(**changes)

    now = int(time.time())
    return {
        "no exp": with_claims(exp=None),
        "expired": with_claims(exp=now - 60),
        "exp a string": with_claims(exp="9999999999"),
        "exp true": with_claims(exp=True),
        "exp infinite": with_claims(exp=float("inf")),
        "exp not a number": with_claims(exp=float("nan")),
        "exp negative": with_claims(exp=-1),
        "exp beyond all time": with_claims(exp=10**30),
        "nbf in the future": with_claims(nbf=now + HOUR),
        "iat in the future": with_claims(iat=now + HOUR),
        "iss another": with_claims(iss="https://evil.example/auth/v1"),
        "iss with a suffix": lambda auth: auth.token(iss=f"{auth.url}/auth/v1.evil.example"),
        "iss an array": lambda auth: auth.token(iss=[f"{auth.url}/auth/v1"]),
        "no iss": with_claims(iss=None),
        "aud another": with_claims(aud="anon"),
        "aud two": with_claims(aud=["authenticated", "other"]),
        "no aud": with_claims(aud=None),
        "role service": with_claims(role="service_role"),
        "role anon": with_claims(role="anon"),
        "no role": with_claims(role=None),
        "anonymous": with_claims(is_anonymous=True),
        "anonymous in words": with_claims(is_anonymous="true"),
        "no sub": with_claims(sub=None),
        "sub empty": with_claims(sub=""),
        "sub a number": with_claims(sub=7),
    }


def _tampered() -> Iterator[tuple[str, Forge]]:
    def flipped(part: int, position: int) -> Forge:
        def forge(auth: AuthServer) -> str:
            parts = auth.token().split(".")
            text = parts[part]
            index = position % len(text)
            other = "A" if text[index] != "A" else "B"
            parts[part] = text[:index] + other + text[index + 1 :]
            return ".".join(parts)

        return forge

    for part, name in enumerate(("header", "claims", "signature")):
        for position in (3, 17, -1):
            yield f"{name} changed at {position}", flipped(part, position)
    yield (
        "other claims under this signature",
        lambda auth: ".".join(
            (
                auth.token().split(".")[0],
                encoded(auth.claims(sub="somebody-else")),
                auth.token().split(".")[2],
            )
        ),
    )
