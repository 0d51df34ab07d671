"""`docs/metrics.md`, made of the declarations: `python -m tests.support.metrics_page` writes it.

It stands here, since nothing in the product may import services and the operators' tools alike.
"""

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence

from shared.observability.metrics import DECLARED, Declaration
from tests.support.repository import ROOT, ProductModule, product_modules

PAGE = ROOT / "docs/metrics.md"

# Where each kind of process begins.
PROCESSES = {
    "api": "services.api.app",
    "syncer": "services.syncer.app",
    "summarizer": "services.summarizer.app",
    "exporter": "ops.exporter.process",
}

# They work on streams; others import them for a name.
_OF_CONSUMERS = ("shared.streams.consuming.", "shared.streams.ordering.")
_CONSUMERS = {"syncer", "summarizer"}

_HEAD = """# Metrics

Made by `make docs` from the declarations in the code. How to scrape them is in
[operations](operations.md#metrics). A histogram has the series `_bucket`, `_sum` and `_count`.
`process_*` (CPU seconds, memory, files, start) come from every process, as the client library names
them.

| name | kind | labels | what it says | exported by |
|---|---|---|---|---|
"""


def declarations(modules: Sequence[ProductModule]) -> list[Declaration]:
    """Return every metric of the product, by name."""
    for module in modules:
        if any(name == "shared.observability.metrics" for name in _imported(module.tree)):
            importlib.import_module(module.name)
    return [
        one
        for one in sorted(DECLARED.values(), key=lambda one: one.name)
        if one.module.partition(".")[0] in {"services", "shared", "ops"}
    ]


def exporters(modules: Sequence[ProductModule]) -> Mapping[str, str]:
    """Return who exports what a module declares: the processes that import it."""
    imports = {module.name: set(_imported(module.tree)) for module in modules}
    reached = {name: _reached(entry, imports) for name, entry in PROCESSES.items()}
    who = {
        module: [
            name
            for name, modules in reached.items()
            if module in modules and (name in _CONSUMERS or not module.startswith(_OF_CONSUMERS))
        ]
        for module in imports
    }
    return {
        module: "all" if len(names) == len(PROCESSES) else ", ".join(names)
        for module, names in who.items()
    }


def metrics_page(declared: Sequence[Declaration], by: Mapping[str, str]) -> str:
    """Return the page, of all metrics and who exports what a module declares."""
    return _HEAD + "".join(_row(one, by[one.module]) for one in declared)


def _row(one: Declaration, exported_by: str) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    description = one.description.replace("|", "\\|")
    return f"| `{one.name}` | {one.kind} | {labels} | {description} | {exported_by} |\n"


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _reached(entry: str, imports: Mapping[str, set[str]]) -> set[str]:
    found, left = {entry}, [entry]
    while left:
        new = imports[left.pop()] & imports.keys() - found
        found |= new
        left += new
    return found


if __name__ == "__main__":
    every = list(product_modules())
    PAGE.write_text(metrics_page(declarations(every), exporters(every)))
