"""What clients are told of a write: the lead as it is stored, or why there is none."""

import orjson
from aiohttp import hdrs, web

from services.api.handlers.operations import ended_otherwise
from services.api.problems import Problem
from services.api.responses import lead_response
from shared.events.outcome import Outcome, OutcomeStatus


def stored_response(outcome: Outcome) -> web.StreamResponse:
    """Answer with the lead, 201 when it is new; raises `Problem` when it was not written."""
    if outcome.status is OutcomeStatus.UPDATED:
        return lead_response(outcome.body, version=orjson.loads(outcome.body)["version"])
    if outcome.status is not OutcomeStatus.CREATED:
        raise refusal(outcome)
    lead = orjson.loads(outcome.body)
    response = lead_response(outcome.body, version=lead["version"], status=201)
    response.headers[hdrs.LOCATION] = f"/leads/{lead['id']}"
    return response


def refusal(outcome: Outcome) -> Problem:
    """Return the problem of a write that was not carried out."""
    match outcome.status:
        case OutcomeStatus.DUPLICATE:
            conflict = orjson.loads(outcome.body)
            detail = f"The {conflict['field']} is another lead's"
            return Problem("duplicate-lead", detail, members=conflict)
        case OutcomeStatus.VERSION_MISMATCH:
            return version_mismatch(orjson.loads(outcome.body)["version"])
        case _:
            return ended_otherwise(outcome)


def version_mismatch(version: int) -> Problem:
    """Return the refusal of a write to a lead that is in this version, not the one expected."""
    return Problem(
        "version-mismatch",
        f"The lead is in version {version}",
        members={"version": version},
        headers={hdrs.ETAG: f'"{version}"'},
    )
