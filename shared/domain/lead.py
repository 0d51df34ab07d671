"""What a lead can be, and the key by which two leads are the same person's."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

import idna

Item = TypeVar("Item")


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
    if email.isascii():  # nearly every address
        return email.strip().lower()
    local, _, domain = unicodedata.normalize("NFC", email.strip()).rpartition("@")
    if local.isascii():
        local = local.lower()
    return f"{local}@{_domain_key(domain)}"


def in_turns(leads: Iterable[tuple[Item, str]]) -> list[list[Item]]:
    """Divide leads, given with their e-mail addresses, so that no turn has one address twice.

    Leads with different keys are written in no order that holds. Where one is to win by its place,
    the turns are written one after the other.
    """
    seen: Counter[str] = Counter()
    turns: list[list[Item]] = []
    for lead, email in leads:
        key = email_key(email)
        if seen[key] == len(turns):
            turns.append([])
        turns[seen[key]].append(lead)
        seen[key] += 1
    return turns


def _domain_key(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain.lower(), uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain.lower()
