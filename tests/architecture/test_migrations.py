"""Migrations lock no large table for long: what the linter sees, and where it is blind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlparse

from shared.storage.migrations.known import DIRECTORY
from tests.support.earlier_schema import EARLIER
from tests.support.repository import ROOT

SQUAWK = Path(sys.executable).with_name("squawk")
FILES = sorted(path for path in DIRECTORY.glob("*.sql") if not path.stem.endswith(".rollback"))
# Rules about other things than locks; and those that .squawk.toml excludes.
NO_LOCKS = (
    "renaming-object,ban-alter-identity,ban-drop-default,ban-drop-sequence,prefer-robust-stmts,"
    "require-lock-timeout,require-statement-timeout"
)
# What a function or an extension does to others is nothing.
LOCKING = re.compile(
    r"\b(TABLE|INDEX|TRIGGER|CONSTRAINT|UPDATE|DELETE|INSERT|LOCK)\b", re.IGNORECASE
)


def test_they_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in FILES] == list(range(1, len(FILES) + 1))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_can_be_taken_back(path: Path) -> None:
    assert path.with_suffix(".rollback.sql").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_statement_that_is_a_text_to_the_linter_locks_a_table(path: Path) -> None:
    for statement in sqlparse.split(path.read_text()):
        code = sqlparse.format(statement, strip_comments=True).strip()
        if code.startswith("DO"):
            assert not LOCKING.search(code)
        elif code.startswith("SELECT"):
            # `Steps` runs what it returns; where it has places to fill are names.
            for text in re.findall(r"\$\$(.*?)\$\$", code, re.DOTALL):
                assert not findings(text.replace("%I", "public"), f"--exclude={NO_LOCKS}")
            assert not LOCKING.search(re.sub(r"\$\$.*?\$\$", "", code, flags=re.DOTALL))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("0003.create-operations-log", "require-concurrent-index-creation"),
        ("0005.create-search", "adding-field-with-default"),
        ("0012.number-events", "adding-not-nullable-field"),
    ],
)
def test_the_linter_finds_what_was_mended(name: str, rule: str) -> None:
    assert rule in findings((EARLIER / f"{name}.sql").read_text(), "--assume-in-transaction")


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("CREATE INDEX one ON leads.lead (dob)", True),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS one ON leads.lead (dob)", False),
        ("ALTER TABLE leads.lead ADD CONSTRAINT one CHECK (dob <> '')", True),
        ("ALTER TABLE leads.lead ADD COLUMN number integer DEFAULT random()", True),
    ],
)
def test_the_linter_finds_what_locks(code: str, *, is_found: bool) -> None:
    assert bool(findings(code)) == is_found


def findings(code: str, *options: str) -> str:
    run = subprocess.run(
        [SQUAWK, "--reporter=gcc", *options],
        input=code,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert not run.stderr or run.returncode
    return run.stdout
