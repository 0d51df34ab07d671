"""What `make run` does before anything runs: the virtual environment and the locked packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "devstack" / "install.sh"
# The one below the virtual environment the tests run in.
PYTHON = str(Path(sys.executable).resolve())
NOTHING_TO_INSTALL = "# an empty lock file needs no index\n"

# A Python as Debian ships it: without ensurepip, though with pip.
WITHOUT_ENSUREPIP = """#!/bin/sh
case "$*" in *"import ensurepip"*) exit 1 ;; esac
exec {python} "$@"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("run", "dev"):
        (tmp_path / f"requirements-{name}.lock").write_text(NOTHING_TO_INSTALL)
    return tmp_path


@pytest.fixture
def finished(checkout: Path) -> Path:
    """A checkout where the work is done, but for pip, which takes seconds to install."""
    venv = checkout / ".venv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(venv)], check=True)
    (venv / "installed-run.lock").write_text(NOTHING_TO_INSTALL)
    return checkout


def install(checkout: Path, what: str = "run", **environment: str) -> str:
    finished = attempt(checkout, what, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


def attempt(checkout: Path, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "PYTHON": PYTHON}
    return subprocess.run(
        ["sh", str(SCRIPT), what],
        cwd=checkout,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_once_is_enough(checkout: Path) -> None:
    assert "Making .venv" in install(checkout)
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert install(checkout) == ""


def test_a_changed_lock_is_installed(finished: Path) -> None:
    assert install(finished) == ""
    (finished / "requirements-run.lock").write_text(NOTHING_TO_INSTALL + "# changed\n")
    told = install(finished)
    assert "Installing requirements-run.lock" in told
    assert "Making" not in told
    assert install(finished) == ""


def test_what_tests_need_includes_what_a_run_needs(finished: Path) -> None:
    stamp = finished / ".venv" / "installed-run.lock"
    stamp.rename(stamp.with_name("installed-dev.lock"))
    assert install(finished) == ""


def test_an_interrupted_installation_starts_over(finished: Path) -> None:
    (finished / ".venv" / ".unfinished").touch()
    (finished / ".venv" / "half-installed").touch()
    assert "Making .venv" in install(finished)
    assert not (finished / ".venv" / "half-installed").exists()
    assert install(finished) == ""


def test_a_python_without_ensurepip_will_do_when_it_has_pip(checkout: Path) -> None:
    python = checkout / "debian-python"
    python.write_text(WITHOUT_ENSUREPIP.format(python=PYTHON))
    python.chmod(0o755)
    install(checkout, PYTHON=str(python))
    assert not list((checkout / ".venv").glob("lib/*/site-packages/pip"))
    assert (checkout / ".venv" / "installed-run.lock").exists()


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_no_suitable_python_is_told(checkout: Path, python: str) -> None:
    told = attempt(checkout, "run", PYTHON=python)
    assert told.returncode == 1
    assert "No Python 3.11 or newer here" in told.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_lock_is_told(checkout: Path) -> None:
    (checkout / "requirements-run.lock").unlink()
    told = attempt(checkout, "run")
    assert told.returncode == 1
    assert "make lock" in told.stderr
