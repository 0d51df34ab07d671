"""The repository's own files, for tests about its form."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("services", "shared", "ops", "devstack", "bench")
# Programs that stand for what others would build; what they are made of is not installed here.
NOT_OURS = ROOT / "bench/peers"

# What a checkout holds that is not the repository's: git, environments, caches and data.
_MADE = {"__pycache__", "sbom.json"}


@dataclass(frozen=True, slots=True)
class ProductModule:
    """A module of the product. `lines` counts everything, comments and blank lines too."""

    path: Path
    name: str
    lines: int
    tree: ast.Module


def product_modules() -> Iterator[ProductModule]:
    """Yield each module, parsed."""
    for package in PRODUCT:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.is_relative_to(NOT_OURS):
                continue
            text = path.read_text(encoding="utf-8")
            relative = path.relative_to(ROOT)
            parts = [part for part in relative.with_suffix("").parts if part != "__init__"]
            yield ProductModule(
                relative, ".".join(parts), len(text.splitlines()), ast.parse(text, str(path))
            )


def repository_files() -> Iterator[Path]:
    """Yield every file that belongs to the repository, as git would have it without `.git`."""
    yield from _files(ROOT)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in _MADE or _is_ignored(path):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _is_ignored(path: Path) -> bool:
    # Of the hidden names only these are the repository's own.
    kept = {".ci", ".dockerignore", ".env.example", ".gitignore"}
    return path.name.startswith(".") and path.name not in kept
