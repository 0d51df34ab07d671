"""What spans say, by OpenTelemetry's semantic conventions 1.36: nothing that a person gave."""

import re
from typing import Any

from shared.domain.errors import PermanentError
from shared.domain.summary import FailureReason
from shared.events.envelope import Event


def message(operation: str, destination: str) -> dict[str, Any]:
    return {
        "messaging.system": "redis",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }


def about(event: Event) -> dict[str, Any]:
    attributes = {"cloudevents.event_id": str(event.id), "cloudevents.event_type": event.type}
    lead_id = getattr(event.data, "lead_id", None)
    return attributes if lead_id is None else attributes | {"leads.lead_id": str(lead_id)}


def error_type(error: BaseException) -> str:
    """Return the kind of an error: a code or a reason of ours, else its class."""
    if isinstance(error, PermanentError):
        return error.code
    # Other libraries' errors have a text by that name, which may quote anything.
    reason = getattr(error, "reason", None)
    return str(reason) if isinstance(reason, FailureReason) else type(error).__name__


_table = re.compile(
    r"\b(INSERT INTO|UPDATE|DELETE FROM|FROM|JOIN|SELECT|TABLE)\s+(leads\.\w+)", re.IGNORECASE
)
_SHORT = {"INSERT INTO": "INSERT", "DELETE FROM": "DELETE", "FROM": "SELECT", "JOIN": "SELECT"}
LONGEST_LOOKED_AT = 4_000


def statement_summary(query: str) -> str:
    """Return what a statement does to which table, of few values: `INSERT leads.lead`."""
    first = next(iter(query.split(None, 1)), "").rstrip(";").upper()
    # Of several statements in one the writing ones say the most.
    found = _table.findall(query[:LONGEST_LOOKED_AT])
    pairs = [(_SHORT.get(verb.upper(), verb.upper()), table) for verb, table in found]
    verb, table = next((pair for pair in pairs if pair[0] != "SELECT"), (pairs or [("", "")])[0])
    if first in {"BEGIN", "COMMIT", "ROLLBACK"}:
        return f"{first} {table}".strip()
    return f"{verb} {table}" if table else "SELECT" if first == "SELECT" else "?"
