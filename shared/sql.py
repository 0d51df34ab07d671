"""Statements too long for a literal: read once, at import, from files beside the code."""

from pathlib import Path


def load_sql(module_file: str, name: str) -> str:
    """Return the statement in the file `name` beside a module, which passes its `__file__`."""
    return (Path(module_file).parent / name).read_text(encoding="utf-8")
