"""What a lead is, and the keys by which two leads are the same."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import idna


class LeadStatus(StrEnum):
    """Where a lead stands in the sales funnel."""

    NEW = "new"
    CONTACTED = "contacted"
    QUALIFIED = "qualified"
    UNQUALIFIED = "unqualified"
    CONVERTED = "converted"


class LeadSource(StrEnum):
    """Where a lead came from."""

    MANUAL = "manual"
    RANDOMUSER = "randomuser"
    IMPORT = "import"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """A stored lead. `version` grows by one with every change; times are UTC."""

    id: UUID
    external_id: UUID | None
    first_name: str
    last_name: str
    email: str
    phone: str | None
    cell: str | None
    dob: str | None
    city: str | None
    state: str | None
    country: str | None
    picture: str | None
    summary: str | None
    next_action: str | None
    summary_stale: bool
    status: LeadStatus
    source: str
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    version: int


def email_key(email: str) -> str:
    """Return the form under which two e-mail addresses are the same person's.

    NFC, an ASCII local part lower-cased, the domain as lower-case IDNA; plus-tags and
    dots stay, since only some providers ignore them. `email` must hold an `@`.
    """
    local, _, domain = unicodedata.normalize("NFC", email.strip()).rpartition("@")
    if local.isascii():
        local = local.lower()
    return f"{local}@{_domain_key(domain)}"


def _domain_key(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain.lower(), uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain.lower()
