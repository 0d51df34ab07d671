"""The project's keys: the one that signs tokens, and the two that callers present."""

import hmac
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey

from devstack.data_directory import write_secret
from devstack.standins.supabase_auth.settings import SupabaseAuthSettings

Role = Literal["anon", "service_role"]

# The dates of a legacy API key: fixed, so that the key stays the same, and ten years apart.
LEGACY_KEYS_FROM, LEGACY_KEYS_UNTIL = 1_750_000_000, 2_065_532_400


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs tokens. A symmetric key is never published."""

    algorithm: Literal["ES256", "HS256"]
    key: ECKey | OctKey
    key_id: str

    def public_keys(self) -> list[dict[str, object]]:
        if isinstance(self.key, OctKey):
            return []
        public = self.key.as_dict(private=False)
        return [{**public, "kid": self.key_id, "key_ops": ["verify"], "ext": True}]

    def sign(self, claims: dict[str, object]) -> str:
        header = {"alg": self.algorithm, "kid": self.key_id, "typ": "JWT"}
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])


class SigningKeys:
    """The key that signs, and others whose tokens count too: those before it, and the next.

    They change as the owner of a project changes them; a restart goes back to the first.
    """

    def __init__(self, first: SigningKey) -> None:
        self.signing = first
        self._standby: SigningKey | None = None
        self._former: list[SigningKey] = []

    def __iter__(self) -> Iterator[SigningKey]:
        yield self.signing
        yield from self._former
        if self._standby is not None:
            yield self._standby

    def add_standby(self) -> None:
        """Publishes the key that will sign next."""
        self._standby = _new_pair()

    def rotate(self) -> None:
        """Signs with the standby key from now on. Tokens of the one before are still good."""
        self._former.append(self.signing)
        self.signing, self._standby = self._standby or _new_pair(), None

    def revoke(self) -> None:
        """Forgets all but the key that signs."""
        self._former.clear()
        self._standby = None

    def published(self) -> list[dict[str, object]]:
        return [public for key in self for public in key.public_keys()]

    def verify(self, token: str) -> dict[str, Any]:
        """Returns the claims; raises `JoseError` or `ValueError` for a token that is not ours."""
        header = jws.extract_compact(token.encode()).headers()
        kid, algorithm = header.get("kid"), header.get("alg")
        for key in self:
            # A token without a kid is from before keys had them, and signed with the secret.
            if kid in {None, key.key_id} and algorithm == key.algorithm:
                return jwt.decode(token, key.key, algorithms=[key.algorithm]).claims
        raise ValueError(f"unrecognized JWT kid {kid} for algorithm {algorithm}")


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys that identify the calling application."""

    anon: str
    service: str

    def role(self, presented: str) -> Role | None:
        if hmac.compare_digest(presented.encode(), self.service.encode()):
            return "service_role"
        if hmac.compare_digest(presented.encode(), self.anon.encode()):
            return "anon"
        return None


def open_signing_key(settings: SupabaseAuthSettings) -> SigningKey:
    """The configured secret, or the key pair of the data directory, generated once."""
    if settings.jwt_secret is not None:
        key = OctKey.import_key(settings.jwt_secret.get_secret_value())
        return SigningKey("HS256", key, key.thumbprint()[:16])
    path = settings.data_dir / "signing_key.json"
    if not path.exists():
        generated = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
        write_secret(path, json.dumps(generated.as_dict(private=True)))
    pair = ECKey.import_key(json.loads(path.read_text()))
    return SigningKey("ES256", pair, pair.thumbprint())


def _new_pair() -> SigningKey:
    pair = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
    return SigningKey("ES256", pair, pair.thumbprint())


def open_api_keys(settings: SupabaseAuthSettings, signing_key: SigningKey) -> ApiKeys:
    """The keys in the files `anon_key` and `service_key`, made up once.

    As on the hosted platform they are opaque, and tokens themselves in a project with a secret.
    """
    anon, service = settings.data_dir / "anon_key", settings.data_dir / "service_key"
    if signing_key.algorithm == "HS256":
        return ApiKeys(
            anon=_keep(anon, _legacy_key(signing_key, "anon")),
            service=_keep(service, _legacy_key(signing_key, "service_role")),
        )
    return ApiKeys(anon=_opaque(anon, "publishable"), service=_opaque(service, "secret"))


def _opaque(path: Path, kind: str) -> str:
    prefix = f"sb_{kind}_"
    kept = path.read_text().strip() if path.exists() else ""
    return kept if kept.startswith(prefix) else _keep(path, prefix + secrets.token_urlsafe(24))


def _legacy_key(signing_key: SigningKey, role: Role) -> str:
    return signing_key.sign(
        {
            "iss": "supabase",
            "ref": "standin",
            "role": role,
            "iat": LEGACY_KEYS_FROM,
            "exp": LEGACY_KEYS_UNTIL,
        }
    )


def _keep(path: Path, key: str) -> str:
    write_secret(path, key)
    return key
