"""Access tokens with Supabase's claims, and what they are answered in."""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from joserfc.errors import JoseError

from devstack.standins.supabase_auth.accounts import Session, User
from devstack.standins.supabase_auth.errors import AuthError
from devstack.standins.supabase_auth.keys import SigningKeys

AUDIENCE = ROLE = "authenticated"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a valid token speaks for."""

    user_id: str
    session_id: str


class Tokens:
    """Issues access tokens and verifies them."""

    def __init__(self, keys: SigningKeys, *, lifetime: timedelta) -> None:
        self._keys = keys
        self._lifetime = lifetime

    def grant(self, session: Session, *, issuer: str) -> dict[str, Any]:
        """The answer to a log-in or a refresh."""
        issued = int(time.time())
        lifetime = int(self._lifetime.total_seconds())
        claims = _claims(session, issuer=issuer)
        return {
            "access_token": self._keys.signing.sign(
                {**claims, "iat": issued, "exp": issued + lifetime}
            ),
            "token_type": "bearer",
            "expires_in": lifetime,
            "expires_at": issued + lifetime,
            "refresh_token": session.refresh_token,
            "user": describe(session.user),
        }

    def verify(self, token: str) -> Bearer:
        """Raises `AuthError` for a token that is not ours, has expired or is no user's."""
        try:
            claims = self._keys.verify(token)
        except (JoseError, ValueError) as error:
            raise _bad_jwt(f"invalid JWT: unable to parse or verify signature, {error}") from error
        if claims.get("exp", 0) <= time.time():
            raise _bad_jwt(
                "invalid JWT: unable to parse or verify signature, "
                "token has invalid claims: token is expired"
            )
        if not claims.get("sub"):
            raise _bad_jwt("invalid claim: missing sub claim")
        return Bearer(str(claims["sub"]), str(claims.get("session_id")))


def missing_subject() -> AuthError:
    """An API key in a user's place."""
    return _bad_jwt("invalid claim: missing sub claim")


def _bad_jwt(message: str) -> AuthError:
    return AuthError(403, "bad_jwt", message)


def _claims(session: Session, *, issuer: str) -> dict[str, object]:
    user = session.user
    logged_in = int(datetime.fromisoformat(session.created_at).timestamp())
    return {
        "iss": issuer,
        "sub": user.id,
        "aud": AUDIENCE,
        "email": user.email,
        "phone": "",
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "role": ROLE,
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": logged_in}],
        "session_id": session.id,
        "is_anonymous": False,
    }


def describe(user: User) -> dict[str, Any]:
    """A user as the API shows it; what is not set is left out."""
    optional = {
        "email_confirmed_at": user.confirmed_at,
        "confirmed_at": user.confirmed_at,
        "last_sign_in_at": user.last_sign_in_at,
    }
    return {
        "id": user.id,
        "aud": AUDIENCE,
        "role": ROLE,
        "email": user.email,
        "phone": "",
        **{name: moment for name, moment in optional.items() if moment is not None},
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "identities": [_identity(user)],
        "created_at": user.created_at,
        "updated_at": user.last_sign_in_at or user.confirmed_at or user.created_at,
        "is_anonymous": False,
    }


def _identity(user: User) -> dict[str, Any]:
    return {
        "identity_id": str(uuid.uuid5(uuid.UUID(user.id), "email")),
        "id": user.id,
        "user_id": user.id,
        "identity_data": {
            "email": user.email,
            "email_verified": False,
            "phone_verified": False,
            "sub": user.id,
        },
        "provider": "email",
        "last_sign_in_at": user.created_at,
        "created_at": user.created_at,
        "updated_at": user.created_at,
        "email": user.email,
    }
