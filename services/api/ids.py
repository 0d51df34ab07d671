"""Ids in paths."""

import re

from services.api.problems import Problem

_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE).fullmatch


def canonical_id(text: str, *, missing: str) -> str:
    """Return a UUID in its canonical form; raises `Problem` with code `missing` for any other text.

    As text, since that is what the cache is asked with.
    """
    if _uuid(text) is None:
        raise Problem(missing, "There is nothing with this id")
    return text.lower()
