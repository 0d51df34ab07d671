"""Functions, modules and folders stay small enough to be read; the figures are printed."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from tests.support.repository import PRODUCT, ROOT, ProductModule

FUNCTION_LINES = 50
MODULE_LINES = 400
COMPLEXITY = 8
FOLDER_MODULES = 12
# One module per resource of the API: more would not be read together.
WIDER_FOLDERS = {"services/api/handlers": 13}

Figure = tuple[str, int]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(modules: list[ProductModule]) -> Iterator[Figure]:
    """Yield each function's place and its length in lines, from its first decorator on."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Function) and node.end_lineno is not None:
                first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
                yield f"{module.path}:{node.lineno} {node.name}", node.end_lineno - first + 1


def folders(modules: list[ProductModule]) -> Counter[str]:
    """Return how many modules each folder has; its `__init__` is the folder itself."""
    return Counter(one.path.parent.as_posix() for one in modules if one.path.stem != "__init__")


def complexities(*paths: str | Path) -> list[Figure]:
    """Return each function's place and its cyclomatic complexity, as the linter counts it."""
    ruff = Path(sys.executable).with_name("ruff")
    options = ("--select", "C901", "--config", "lint.mccabe.max-complexity=0")
    formats = ("--output-format", "json", "--no-cache", "--isolated", "--exit-zero")
    command = [ruff, "check", *options, *formats, *paths]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    return [_complexity(finding) for finding in json.loads(output)]


def _complexity(finding: dict[str, str]) -> Figure:
    match = re.fullmatch(r"`(.+)` is too complex \((\d+) > 0\)", finding["message"])
    assert match is not None, finding["message"]
    return f"{Path(finding['filename']).name} {match[1]}", int(match[2])


def longest(figures: list[Figure]) -> str:
    place, figure = max(figures, key=lambda one: one[1])
    return f"{figure} ({place})"


def above(limit: int, figures: list[Figure]) -> list[str]:
    return [f"{place}: {figure}" for place, figure in figures if figure > limit]


def test_sizes(modules: list[ProductModule], measure: Callable[[str], None]) -> None:
    lengths = list(functions(modules))
    sizes = [(str(one.path), one.lines) for one in modules]
    complexity = complexities(*PRODUCT)
    widths = folders(modules)
    lines = sum(size for _, size in sizes)
    measure(f"{len(sizes)} modules, {lines} lines: most {longest(sizes)}")
    usual = median(length for _, length in lengths)
    measure(f"{len(lengths)} functions: median {usual:g} lines, most {longest(lengths)}")
    measure(f"complexity: most {longest(complexity)}")
    measure(f"modules in a folder: most {longest(list(widths.items()))}")
    assert above(FUNCTION_LINES, lengths) == []
    assert above(MODULE_LINES, sizes) == []
    assert above(COMPLEXITY, complexity) == []
    assert {
        folder: number
        for folder, number in widths.items()
        if number > WIDER_FOLDERS.get(folder, FOLDER_MODULES)
    } == {}


def test_the_measures_measure(tmp_path: Path) -> None:
    source = "@mark\ndef long():\n" + "    x = 1\n" * 60 + "def hard(a):\n"
    source += "".join(f"    if a == {number}:\n        return {number}\n" for number in range(9))
    path = tmp_path / "sample.py"
    path.write_text(source)
    sample = ProductModule(path=path, name="sample", lines=81, tree=ast.parse(source))

    assert [lines for _, lines in functions([sample])] == [62, 19]
    assert [figure for _, figure in complexities(path)] == [1, 10]
    assert folders([sample]) == {tmp_path.as_posix(): 1}
