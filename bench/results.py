"""What has been measured, kept in one file of JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import orjson

RESULTS = Path(__file__).with_name("results.json")


def keep(path: Path, kind: str, results: Mapping[str, object]) -> None:
    """Write results into the file in place of those of the same names."""
    kept = read(path)
    kept[kind] = {**kept.get(kind, {}), **results}
    path.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")


def read(path: Path) -> dict[str, Any]:
    """Return what is kept by kind and name; nothing where there is no such file."""
    if not path.exists():
        return {}
    found: object = orjson.loads(path.read_bytes())
    # Earlier versions wrote one list.
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
