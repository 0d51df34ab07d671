"""How the answers about the parts of the image are read: what was not looked up is said."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.supply_chain import NOT_AUDITED, Run, ToolError, audit, locked_packages, sbom
from tests.support.repository import ROOT

CLEAN: dict[str, Any] = {"name": "Attrs", "version": "26.1.0", "vulns": []}
ANY_IO: dict[str, Any] = {"name": "any_io", "version": "4.0", "vulns": []}
BAD: dict[str, Any] = {
    "name": "any-io",
    "version": "4.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["4.1"], "aliases": [], "description": "x"}],
}
SKIPPED: dict[str, Any] = {"name": "any-io", "skip_reason": "not found on PyPI"}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    path.write_text(
        "attrs==26.1.0 \\\n    --hash=sha256:0\n    # via x\n"
        "any.io==4.0 ; python_full_version < '3.12' \\\n    --hash=sha256:1\n"
    )
    return path


def answers(*given: Sequence[dict[str, Any]] | str) -> Run:
    """Return a pip-audit that gives these answers, one after the other; a text is an error."""
    left = iter(given)

    def run(command: Sequence[str]) -> str:
        assert {"--require-hashes", "--disable-pip"} <= set(command)
        answer = next(left)
        if isinstance(answer, str):
            raise ToolError(answer)
        return json.dumps({"dependencies": answer, "fixes": []})

    return run


NOTHING: list[dict[str, Any]] = []


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        (([CLEAN, ANY_IO],), 0, "2 packages audited, 0 advisories"),
        (([CLEAN, BAD],), 1, "any-io 4.0: PYSEC-1, mended in 4.1"),
        # Where one source knows nothing of a package, the other one is asked.
        (([CLEAN, SKIPPED], [CLEAN, ANY_IO]), 0, "2 packages audited"),
        (("no route", [CLEAN, BAD]), 1, "PYSEC-1"),
        # These pip-audit itself ends with 0.
        (([CLEAN, SKIPPED], "no route"), NOT_AUDITED, "*** NOT AUDITED: 1 of 2 packages (any-io)"),
        (([CLEAN], [CLEAN]), NOT_AUDITED, "*** NOT AUDITED: 1 of 2"),
        ((NOTHING, NOTHING), NOT_AUDITED, "*** NOT AUDITED: 2 of 2"),
        (("no route", "nor here"), NOT_AUDITED, "*** osv: nor here"),
        # What is known is not hidden by what is not.
        (([{**CLEAN, "vulns": BAD["vulns"]}, SKIPPED], "no route"), 1, "NOT AUDITED: 1 of 2"),
    ],
)
def test_an_audit_says_what_was_looked_up(
    given: tuple[Sequence[dict[str, Any]] | str, ...],
    status: int,
    says: str,
    lock: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert audit(lock, answers(*given)) == status
    said = capsys.readouterr()
    assert says in said.out + said.err


@pytest.mark.parametrize("answer", ["", "null", "{}", '{"dependencies": [1]}', "<html>"])
def test_an_answer_that_cannot_be_read_is_none(
    answer: str, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(lock, lambda _command: answer) == NOT_AUDITED
    assert "no answer that can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([("Any_IO", "4.0"), ("attrs", "26.1.0")], 0),
        ([("attrs", "26.1.0")], 1),
        ([("any-io", "4.1"), ("attrs", "26.1.0")], 1),
        ([("any-io", "4.0"), ("attrs", "26.1.0"), ("pip", "26")], 1),
    ],
)
def test_a_bill_of_materials_has_what_the_lock_has(
    parts: list[tuple[str, str]], status: int, lock: Path, tmp_path: Path
) -> None:
    target = tmp_path / "sbom.json"

    def write(_command: Sequence[str]) -> str:
        components = [{"name": name, "version": version} for name, version in parts]
        target.write_text(json.dumps({"components": components}))
        return ""

    assert sbom(lock, target, write) == status


def test_the_services_lock_is_read() -> None:
    text = (ROOT / "requirements.lock").read_text()
    packages = locked_packages(text)
    assert len(packages) == text.count("==") - text.count("python_full_version ==")
    assert {"aiohttp", "asyncpg", "redis"} <= packages.keys()
