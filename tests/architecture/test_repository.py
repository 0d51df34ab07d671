"""What stands in no file: machines' paths, registries' addresses, secrets and dead links."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.repository import ROOT, repository_files

INSTALLED = ("requirements.lock", "requirements-run.lock", "requirements-dev.lock")
LOCKS = (*INSTALLED, "requirements-audit.lock", "bench/peers/requirements.lock")

# Files that come from elsewhere and are kept as they are.
VENDORED = {"LICENSE", "tests/support/schemas/compose-spec.json"}

SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a Groq key": r"\bgsk_[A-Za-z0-9]{40,}",
    "a Supabase key": r"\bsb_secret_[A-Za-z0-9_-]{20,}",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
}


def texts() -> Iterator[tuple[Path, str]]:
    for path in repository_files():
        relative = path.relative_to(ROOT)
        if str(relative) in VENDORED:
            continue
        try:
            yield relative, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_the_repository_is_read() -> None:
    names = {str(path) for path, _ in texts()}

    assert {"Makefile", ".ci/run", ".env.example", "shared/settings.py", *LOCKS} <= names
    assert not [name for name in names if name.startswith((".venv", ".git/", ".data"))]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    home = rf"/(?:home|Users)/\w+/|{re.escape(str(Path.home()))}/\w"
    # A checkout right below the root, such as /app, has a path that means nothing.
    checkout = rf"{re.escape(str(ROOT))}\b" if len(ROOT.parts) > 2 else r"(?!)"
    pattern = re.compile(f"{home}|{checkout}")

    assert [
        f"{path}: {found[0]}" for path, text in texts() if (found := pattern.search(text))
    ] == []


def test_no_file_leans_on_what_lies_beside_the_repository() -> None:
    wrong = [
        f"{path}: {found[0]}"
        for path, text in texts()
        for found in re.finditer(r"(?<![\w./])(?:\.\./)+[\w.-]+", text)
        # What the file finds in the repository is no other thing of that name beside it.
        if not is_within((ROOT / path.parent / found[0]).resolve())
        and any(is_beside(base / found[0]) for base in (ROOT, ROOT / path.parent))
    ]

    assert wrong == []


def is_beside(path: Path) -> bool:
    target = path.resolve()
    return target.exists() and ROOT.parent in target.parents and not is_within(target)


def is_within(path: Path) -> bool:
    return path.exists() and ROOT in {path, *path.parents}


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the user's to configure."""
    pattern = re.compile(r"pypi\.org|pythonhosted\.org|registry\.npmjs|proxy\.golang")

    assert [str(path) for path, text in texts() if pattern.search(text)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_locks_name_no_index(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "://" not in text, "a mirror's address does not belong in a lock file"
    assert re.search(r"^--(index-url|extra-index-url|find-links)", text, re.MULTILINE) is None


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_everything_by_hash(name: str) -> None:
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text())

    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]


def test_locks_agree() -> None:
    """All may be installed into one environment, so a package has one version in all of them."""
    versions = [
        dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in INSTALLED
    ]
    runtime, run, dev = versions

    assert runtime.items() <= run.items()
    assert run.items() <= dev.items()


@pytest.mark.parametrize("what", SECRETS)
def test_there_are_no_secrets(what: str) -> None:
    pattern = re.compile(SECRETS[what])

    assert [str(path) for path, text in texts() if pattern.search(text)] == []


def test_documents_link_to_what_exists() -> None:
    dead = [
        f"{path}: {target}"
        for path, text in texts()
        if path.suffix == ".md"
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
        if not (ROOT / path.parent / target).exists()
    ]

    assert dead == []
