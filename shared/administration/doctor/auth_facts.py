"""The doctor's look at the auth server of a Supabase project: what it shows, and takes from us."""

import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, cast

import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from shared.administration.doctor.diagnosis import Finding, Severity
from shared.domain.errors import UnavailableError
from shared.settings import ProjectSettings

TIMEOUT = 5.0
WELL_KNOWN = ".well-known"
PROBE_SECONDS = 60
# What the auth server, or the gateway before it, says of a key that is not the project's.
FOREIGN_KEY = frozenset({None, "bad_jwt", "no_authorization"})

Rank = Literal["secret", "publishable", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthFacts:
    """What was found.

    `rank` is what SUPABASE_KEY may do, and `keys` how many signing keys are published. `issuer` is
    None or empty where the server names none; `issuers` are those whose tokens the API takes.
    `accepts_secret` is None where none is configured.
    """

    rank: Rank
    keys: int
    issuer: str | None
    issuers: frozenset[str]
    accepts_secret: bool | None


async def auth_facts(project: ProjectSettings) -> AuthFacts:
    """Ask the auth server; raises `UnavailableError`. Nothing is changed, and no user is read."""
    key = project.service_key
    async with httpx.AsyncClient(timeout=TIMEOUT, headers={"apikey": key}) as client:
        server = _Server(client, project.auth_url)
        secret = project.jwt_secret
        return AuthFacts(
            rank=await _rank(server, key),
            keys=len((await server.ask(f"{WELL_KNOWN}/jwks.json")).body.get("keys", ())),
            issuer=(await server.ask(f"{WELL_KNOWN}/openid-configuration")).body.get("issuer"),
            issuers=project.issuers,
            accepts_secret=None if secret is None else await _accepts(server, secret),
        )


def unconfigured_auth() -> list[Finding]:
    """Return that the auth server is not known to this process."""
    detail = "not checked: SUPABASE_URI and SUPABASE_KEY are not set here"
    return [Finding(check="auth", severity=Severity.OK, detail=detail)]


def of_auth(facts: AuthFacts) -> list[Finding]:
    """Judge the auth server's answers by what the API needs of it."""
    findings = [
        _found(
            "auth key",
            {"refused": "refused"}.get(facts.rank, f"the project's {facts.rank} key"),
            good=facts.rank == "secret",
            advice="SUPABASE_KEY is not a key of the project at SUPABASE_URI."
            if facts.rank == "refused"
            else "Sign-up needs the secret key, unless SIGNUP_CONFIRMATION is `email`.",
            bad=Severity.FAILURE if facts.rank == "refused" else Severity.WARNING,
        ),
        _found(
            "auth issuer",
            facts.issuer or "the server names none",
            good=not facts.issuer or facts.issuer.rstrip("/") in facts.issuers,
            advice=f"The API takes tokens of {' or '.join(sorted(facts.issuers))} alone, and so "
            f"refuses every user. Set SUPABASE_JWT_ISSUER={facts.issuer}",
        ),
        Finding(
            check="auth signing keys",
            severity=Severity.OK,
            detail=f"{facts.keys} published" if facts.keys else "none: a shared secret signs",
        ),
    ]
    if facts.accepts_secret is not None:
        findings.append(
            _found(
                "auth secret",
                "the project's" if facts.accepts_secret else "not the project's, or no longer",
                good=facts.accepts_secret,
                advice="Correct SUPABASE_JWT_SECRET, or remove it if the project has revoked it: "
                "whoever knows it is let in.",
            )
        )
    return findings


def _found(
    check: str, detail: str, *, good: bool, advice: str, bad: Severity = Severity.FAILURE
) -> Finding:
    if good:
        return Finding(check=check, severity=Severity.OK, detail=detail)
    return Finding(check=check, severity=bad, detail=detail, advice=advice)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: dict[str, Any]

    @property
    def code(self) -> str | None:
        code = self.body.get("error_code")
        return code if isinstance(code, str) else None


@dataclass(frozen=True, slots=True)
class _Server:
    client: httpx.AsyncClient
    url: str

    async def ask(self, path: str, *, bearer: str | None = None) -> _Answer:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        try:
            response = await self.client.get(f"{self.url}/{path}", headers=headers)
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self.url}: {type(error).__name__}") from error
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UnavailableError(f"{self.url} answers {response.status_code}")
        try:
            body: object = response.json()
        except ValueError:
            body = None
        known = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        return _Answer(response.status_code, known)


async def _rank(server: _Server, key: str) -> Rank:
    # Of nobody: whoever may look is told that there is no such user.
    path = f"admin/users/{uuid.UUID(int=0)}"
    answer = await server.ask(path, bearer=key if key.count(".") == 2 else None)  # noqa: PLR2004
    if answer.status == HTTPStatus.OK or answer.code == "user_not_found":
        return "secret"
    return "refused" if answer.code in FOREIGN_KEY else "publishable"


async def _accepts(server: _Server, secret: str) -> bool:
    """Whether a token that the secret signs is one: of a user that there is not."""
    now = int(time.time())
    claims = {
        "sub": str(uuid.uuid4()),
        "aud": "authenticated",
        "role": "authenticated",
        "iat": now,
        "exp": now + PROBE_SECONDS,
    }
    token = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))
    return (await server.ask("user", bearer=token)).code == "user_not_found"
