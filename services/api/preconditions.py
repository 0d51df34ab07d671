"""The If-Match header: which version of a lead a client means to change."""

import re

from aiohttp import hdrs, web

from services.api.lead_outcomes import version_mismatch
from services.api.problems import validation_problem

_tag = r'(?:W/)?"[\x21\x23-\x7e]*"'
_well_formed = re.compile(rf"\*|{_tag}(?:[ \t]*,[ \t]*{_tag})*").fullmatch
# Weak tags never match here (RFC 9110, 13.1.1), and a version has one way to be written.
_versions = re.compile(r'(?<!W/)"([1-9]\d{0,17})"', re.ASCII).findall


def expected_version(request: web.BaseRequest, *, current: int) -> int | None:
    """Return the version that the lead has to be in; None when any will do.

    `current` is the version it was seen in, which another write may overtake: whether it is the
    expected one is decided where it is written. Raises `Problem` 400, and 412 when the header
    names no version at all.
    """
    header = ", ".join(request.headers.getall(hdrs.IF_MATCH, ())).strip()
    if not header and hdrs.IF_MATCH not in request.headers:
        return None
    if _well_formed(header) is None:
        raise validation_problem({hdrs.IF_MATCH: 'Must be an ETag such as "2", or *'})
    if header == "*":
        return None
    versions = {int(version) for version in _versions(header)}
    if not versions:
        raise version_mismatch(current)
    return current if current in versions else max(versions)


def refuse_precondition(request: web.BaseRequest) -> None:
    """Raise `Problem` 400 for an If-Match that would be ignored."""
    if hdrs.IF_MATCH in request.headers:
        raise validation_problem({hdrs.IF_MATCH: "Is not heeded here; send a PATCH instead"})
