"""The project's keys: the one that signs tokens, and the two that callers present."""

import hmac
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from joserfc import jwt
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
