"""Who calls: from the Authorization header to a user."""

import hashlib
import time
from collections.abc import Collection
from dataclasses import replace

import structlog
from joserfc.jwk import OctKey

from services.api.auth.accounts import Accounts
from services.api.auth.keys import SigningKeys
from services.api.auth.refusals import auth_unavailable, invalid_token
from services.api.auth.tokens import (
    ASYMMETRIC,
    SYMMETRIC,
    ForeignIssuerError,
    InvalidSignatureError,
    InvalidTokenError,
    TokenHeader,
    User,
    VerificationKey,
    VerifiedToken,
    check_claims,
    read_header,
    unverified_claims,
    verify,
)
from services.api.storage.sign_outs import SignOuts
from services.api.web.problems import Problem
from shared.domain.errors import UnavailableError

log = structlog.get_logger(__name__)

SCHEME = "bearer "

# How long a token counts as valid until it is checked again: whether its session is over, and where
# only the auth server knows, whether it is valid at all.
ASSURANCE_SECONDS = 60.0
REFUSAL_SECONDS = 10.0
REFUSALS = 1_000
# Tokens to a generation of the cache, and the bytes that they may have together: some are of 16 kB.
GENERATION = 5_000
GENERATION_BYTES = 8 << 20


class TokenVerifier:
    """Verifies tokens here, with the project's keys or its secret.

    A token that is signed with a secret, and not with the one that is configured, may be good all
    the same: the auth server is asked about it. That it publishes keys says nothing of what it
    signs with: the next key is published ahead of its time, and tokens of the one before count
    until they expire.
    """

    def __init__(
        self,
        keys: SigningKeys,
        accounts: Accounts,
        known: "TokenCache",
        sign_outs: SignOuts,
        *,
        secret: str | None,
        issuers: Collection[str],
    ) -> None:
        self._keys = keys
        self._accounts = accounts
        self._secret = None if secret is None else OctKey.import_key(secret)
        self._issuers = issuers
        self._known = known
        self._sign_outs = sign_outs
        self._refused: dict[bytes, float] = {}
        self._hints = {"tokens.wrong_secret", "tokens.foreign_issuer"}

    def remembered(self, authorization: str) -> User | None:
        """Return the user of a header that was verified before."""
        return self._known.get(authorization, now=time.time())

    async def verify(self, authorization: str) -> User:
        """Return the user; raises `Problem` 401, or 503 when the token cannot be checked."""
        token = bearer_token(authorization)
        try:
            verified = await self._verify(token)
            await self._check_session(verified, token)
        except InvalidTokenError as error:
            raise invalid_token(str(error)) from error
        except UnavailableError as error:
            raise auth_unavailable("Tokens cannot be checked now") from error
        assured = min(verified.expires_at, time.time() + ASSURANCE_SECONDS)
        self._known.put(authorization, replace(verified, expires_at=assured))
        return verified.user

    async def sign_out(self, authorization: str) -> None:
        """Have a verified header, and all of its session's, open nothing any more.

        Other processes, and this one for other tokens of the session, may take a minute to hear
        of it.
        """
        token = bearer_token(authorization)
        verified = check_claims(unverified_claims(token), issuers=self._issuers, now=time.time())
        await self._sign_outs.note_session(_session_of(verified, token))
        self._known.remove(authorization)

    async def check_ready(self) -> None:
        """Raise `UnavailableError` unless tokens can be verified."""
        if self._secret is None:
            self._keys.check_age()

    async def _verify(self, token: str) -> VerifiedToken:
        header = read_header(token)
        if header.alg == SYMMETRIC and self._secret is None:
            return await self._verify_remotely(token)
        key = await self._key(header)
        try:
            return verify(token, key, issuers=self._issuers, now=time.time())
        except ForeignIssuerError as error:
            self._hint(
                "tokens.foreign_issuer",
                "The project's own tokens name another issuer: set SUPABASE_JWT_ISSUER to it",
                issuer=str(error.issuer),
            )
            raise
        except InvalidSignatureError:
            if header.alg != SYMMETRIC:
                raise
        verified = await self._verify_remotely(token)
        self._hint(
            "tokens.wrong_secret",
            "SUPABASE_JWT_SECRET is not the project's secret: its auth server checks every token",
        )
        return verified

    async def _check_session(self, verified: VerifiedToken, token: str) -> None:
        if await self._sign_outs.is_over(_session_of(verified, token)):
            raise InvalidTokenError("The session is over")

    async def _key(self, header: TokenHeader) -> VerificationKey:
        if header.alg == SYMMETRIC and self._secret is not None:
            return self._secret
        if header.alg not in ASYMMETRIC:
            raise InvalidTokenError("The token is not signed in an accepted way")
        key = await self._keys.find_key(header.kid)
        if key is None:
            raise InvalidTokenError("The token is signed with an unknown key")
        return key

    async def _verify_remotely(self, token: str) -> VerifiedToken:
        """Have the auth server check a token, where it alone knows the secret."""
        now, digest = time.time(), hashlib.sha256(token.encode()).digest()
        claimed = check_claims(unverified_claims(token), issuers=self._issuers, now=now)
        if self._refused.get(digest, 0.0) > now:
            raise InvalidTokenError("The token is not valid")
        if not await self._accounts.is_token_valid(token, for_user=claimed.user):
            self._remember_refusal(digest, until=now + REFUSAL_SECONDS)
            raise InvalidTokenError("The token is not valid")
        return claimed

    def _remember_refusal(self, digest: bytes, *, until: float) -> None:
        if len(self._refused) >= REFUSALS:
            self._refused.clear()
        self._refused[digest] = until

    def _hint(self, event: str, hint: str, **fields: object) -> None:
        """Log once in the life of the process: it is the same for every token."""
        if event in self._hints:
            self._hints.remove(event)
            log.error(event, hint=hint, **fields)


class TokenCache:
    """Headers found valid before, as they came, until they expire.

    Keeps what was used lately in two generations of bounded size: a hit costs one look-up and
    no reordering.
    """

    def __init__(self, *, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young_bytes = 0
        self._young: dict[str, VerifiedToken] = {}
        self._old: dict[str, VerifiedToken] = {}

    def get(self, header: str, *, now: float) -> User | None:
        """Return whose header it is, unless it is unknown or expired."""
        verified = self._young.get(header)
        if verified is None:
            verified = self._old.get(header)
            if verified is None:
                return None
            self.put(header, verified)
        return verified.user if verified.expires_at > now else None

    def put(self, header: str, verified: VerifiedToken) -> None:
        """Remember a header."""
        if len(self._young) >= self._generation or self._young_bytes > GENERATION_BYTES:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[header] = verified
        self._young_bytes += len(header)

    def remove(self, header: str) -> None:
        """Forget a header."""
        self._young.pop(header, None)
        self._old.pop(header, None)

    def clear(self) -> None:
        """Forget all headers."""
        self._young, self._old, self._young_bytes = {}, {}, 0


def bearer_token(authorization: str) -> str:
    """Return the token of an Authorization header; raises `Problem` 401."""
    if authorization[: len(SCHEME)].lower() != SCHEME:
        raise Problem(
            "unauthenticated",
            "Send the access token as 'Authorization: Bearer <token>'",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return authorization[len(SCHEME) :].strip()


def _session_of(verified: VerifiedToken, token: str) -> str:
    """Return the session's name; a token that names none is a session by itself."""
    return hashlib.sha256((verified.session or token).encode()).hexdigest()
