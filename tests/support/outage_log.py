"""What is in a captured log of outages."""

from collections.abc import MutableMapping, Sequence
from typing import Any


def outage_lines(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, str]]:
    """Return `began` and `ended` lines with what they are about.

    What began before the log was captured is another test's.
    """
    lines: list[tuple[str, str]] = []
    for one in logs:
        prefix, _, event = str(one["event"]).partition(".")
        is_ours = event == "began" or ("began", one.get("dependency")) in lines
        if prefix == "outage" and is_ours:
            lines.append((event, one["dependency"]))
    return lines
