"""`.env.example` as a mapping, whether its lines are commented out or not."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import ROOT

EXAMPLE = ROOT / ".env.example"

_LINE = re.compile(r"(?P<off>#?)(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")


def example_values() -> dict[str, str]:
    """Return the value of every variable in the example."""
    return {match["name"]: match["value"] for match in example_lines()}


def example_lines(path: Path = EXAMPLE) -> Iterator[re.Match[str]]:
    """Yield a match with `off`, `name` and `value` for each variable, in order."""
    for line in path.read_text().splitlines():
        match = _LINE.fullmatch(line)
        if match is not None:
            yield match
