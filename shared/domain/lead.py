"""What a lead can be, and the key by which two leads are the same person's."""

import unicodedata
from enum import StrEnum

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
