"""An event that was parked because no retry will help it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

# Far below what an index takes in a row.
MOST_IN_KEY = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A parked entry: everything needed to understand it and to put it back."""

    group: str
    event_id: str
    stream: str
    entry_id: str
    type: str
    reason: str
    error: str
    attempts: int
    fields: Mapping[str, str]


def short_key(text: str) -> str:
    """Return what stands for a text in an index and in logs: of a long one beginning and hash."""
    if len(text) <= MOST_IN_KEY:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[: MOST_IN_KEY // 2]}... sha256:{digest}"
