"""What `make run` does before anything runs: the virtual environment and the locked packages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "devstack" / "install.sh"
# The one below the virtual environment the tests run in.
PYTHON = str(Path(sys.executable).resolve())
HAS_PIP = not subprocess.run(
    [PYTHON, "-m", "pip", "--version"], capture_output=True, check=False
).returncode
NOTHING_TO_INSTALL = "# an empty lock file needs no index\n"

# Prints what it is asked to do, and nothing for the question of its version.
FAKE_PIP = "import sys; 'install' in sys.argv and print('pip', *sys.argv[1:], file=sys.stderr)"

# A Python as Debian ships it: without ensurepip, though with pip.
WITHOUT_ENSUREPIP = f"""#!/bin/sh
case "$*" in *"import ensurepip"*) exit 1 ;; esac
exec {PYTHON} "$@"
"""

WITH_FAKE_PIP = f"""#!/bin/sh
[ "$2" = venv ] || exec {PYTHON} "$@"
{PYTHON} -m venv --without-pip "$3"
cd "$3"/lib/python*/site-packages && echo "{FAKE_PIP}" > pip.py
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("run", "dev"):
        (tmp_path / f"requirements-{name}.lock").write_text(NOTHING_TO_INSTALL)
    return tmp_path


@pytest.fixture
def finished(checkout: Path) -> Path:
    """A checkout with everything installed. Its pip is a fake, as the real one takes seconds."""
    venv = checkout / ".venv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(venv)], check=True)
    [packages] = venv.glob("lib/python*/site-packages")
    (packages / "pip.py").write_text(FAKE_PIP)
    (venv / "installed-run.lock").write_text(NOTHING_TO_INSTALL)
    return checkout


@pytest.fixture
def quick_python(tmp_path: Path) -> Path:
    """A Python that leaves pip out of the virtual environments it makes."""
    return executable(tmp_path / "quick-python", WITH_FAKE_PIP)


def executable(path: Path, script: str) -> Path:
    path.write_text(script)
    path.chmod(0o755)
    return path


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


def test_once_is_enough(checkout: Path, quick_python: Path) -> None:
    assert "Making .venv" in install(checkout, PYTHON=str(quick_python))
    assert (checkout / ".venv" / "bin" / "python").exists()
    assert install(checkout) == ""


def test_a_changed_lock_is_installed(finished: Path) -> None:
    assert install(finished) == ""
    (finished / "requirements-run.lock").write_text(NOTHING_TO_INSTALL + "# changed\n")
    output = install(finished)
    assert "Installing requirements-run.lock" in output
    assert re.search("\npip install .*--require-hashes -r requirements-run.lock\n", output)
    assert "Making" not in output
    assert install(finished) == ""


def test_what_tests_need_includes_what_a_run_needs(finished: Path) -> None:
    stamp = finished / ".venv" / "installed-run.lock"
    stamp.rename(stamp.with_name("installed-dev.lock"))
    assert install(finished) == ""


def test_an_interrupted_installation_starts_over(finished: Path, quick_python: Path) -> None:
    (finished / ".venv" / ".unfinished").touch()
    (finished / ".venv" / "half-installed").touch()
    assert "Making .venv" in install(finished, PYTHON=str(quick_python))
    assert not (finished / ".venv" / "half-installed").exists()
    assert install(finished) == ""


@pytest.mark.skipif(not HAS_PIP, reason="the system's Python has no pip, as in Debian")
def test_a_python_without_ensurepip_will_do_when_it_has_pip(checkout: Path) -> None:
    python = executable(checkout / "debian-python", WITHOUT_ENSUREPIP)
    install(checkout, PYTHON=str(python))
    assert not list((checkout / ".venv").glob("lib/*/site-packages/pip"))
    assert (checkout / ".venv" / "installed-run.lock").exists()


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_no_suitable_python_is_an_error(checkout: Path, python: str) -> None:
    output = attempt(checkout, "run", PYTHON=python)
    assert output.returncode == 1
    assert "No Python 3.11 or newer here" in output.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_lock_is_an_error(checkout: Path) -> None:
    (checkout / "requirements-run.lock").unlink()
    output = attempt(checkout, "run")
    assert output.returncode == 1
    assert "make lock" in output.stderr
