"""What the services are made of, and what is known against it: `make sbom` and `make audit`.

`audit` ends with 0 when all packages of the lock were looked up and nothing is known against
them, with 1 when something is, and with 3 when some could not be looked up.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
SBOM = ROOT / "sbom.json"
# An environment of its own: these tools bring fifty packages along.
TOOLS = ROOT / ".venv-audit" / "bin"

# One is asked where the other could not answer.
SOURCES = ("pypi", "osv")
ANSWER_SECONDS = 10
LONGEST_SECONDS = 120
VULNERABLE, NOT_AUDITED = 1, 3

Run = Callable[[Sequence[str]], str]


class ToolError(Exception):
    """A tool gave no answer; the message has its last words."""


@dataclass(slots=True)
class Audit:
    """What sources of advisories say: `known` has the advisories of each package looked up."""

    known: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    reasons: list[str] = field(default_factory=list[str])

    def add(self, answer: str) -> None:
        """Add an answer of pip-audit's, in JSON.

        A package that it has skipped is one that nobody has looked at, though it ends with 0.
        """
        try:
            packages = json.loads(answer)["dependencies"]
            for package in packages:
                if "vulns" in package:
                    self.known[_canonical(package["name"])] = list(_advisories(package))
                else:
                    self.reasons.append(package.get("skip_reason", "left out"))
        except (ValueError, KeyError, TypeError) as error:
            raise ToolError(f"no answer that can be read: {answer[:200]!r}") from error

    def missing(self, locked: dict[str, str]) -> list[str]:
        """Return the packages of a lock that nobody has looked at."""
        return sorted(locked.keys() - self.known.keys())

    @property
    def advisories(self) -> list[str]:
        """Everything that is known."""
        return [one for name in sorted(self.known) for one in self.known[name]]


def _advisories(package: dict[str, Any]) -> Iterator[str]:
    for advisory in package["vulns"]:
        fixed = ", ".join(advisory.get("fix_versions", ())) or "no version"
        yield f"{package['name']} {package['version']}: {advisory['id']}, mended in {fixed}"


def locked_packages(text: str) -> dict[str, str]:
    """Return the versions in a lock file by the packages' canonical names."""
    found: list[tuple[str, str]] = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {_canonical(name): version for name, version in found}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def audit(lock: Path, run: Run) -> int:
    """Look a lock's packages up, say what was found, and return the exit status."""
    locked = locked_packages(lock.read_text())
    found = Audit()
    for source in SOURCES:
        if not found.missing(locked):
            break
        try:
            found.add(run(["pip-audit", *_arguments(lock, source)]))
        except ToolError as error:
            found.reasons.append(f"{source}: {error}")
    for line in found.advisories:
        sys.stderr.write(f"{line}\n")
    if missing := found.missing(locked):
        sys.stderr.write(
            f"*** NOT AUDITED: {len(missing)} of {len(locked)} packages ({', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''})\n"  # noqa: PLR2004
            + "".join(f"*** {reason}\n" for reason in (*found.reasons[:1], *found.reasons[-1:]))
        )
    else:
        sys.stdout.write(f"{len(locked)} packages audited, {len(found.advisories)} advisories\n")
    if found.advisories:
        return VULNERABLE
    return NOT_AUDITED if missing else 0


def _arguments(lock: Path, source: str) -> list[str]:
    # The lock has everything: nothing is resolved or installed to be looked at.
    return [
        *("--requirement", str(lock), "--require-hashes", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off"),
        *("--vulnerability-service", source, "--timeout", str(ANSWER_SECONDS)),
    ]


def sbom(lock: Path, target: Path, run: Run) -> int:
    """Write the parts of the image's environment as CycloneDX; all of the lock must be in it."""
    run(
        [
            *(
                "cyclonedx-py",
                "requirements",
                str(lock),
                "--pyproject",
                str(ROOT / "pyproject.toml"),
            ),
            *("--output-reproducible", "--output-format", "JSON", "--output-file", str(target)),
        ]
    )
    parts = {
        _canonical(part["name"]): part["version"]
        for part in json.loads(target.read_text())["components"]
    }
    locked = locked_packages(lock.read_text())
    if parts != locked:
        wrong = sorted(name for name, _ in parts.items() ^ locked.items())
        sys.stderr.write(f"{target.name} is not what the lock says: {', '.join(wrong)}\n")
        return 1
    sys.stdout.write(f"{target.name}: {len(parts)} packages\n")
    return 0


def run_tool(command: Sequence[str]) -> str:
    """Run one of the tools; returns what it printed. `ToolError` when that is nothing."""
    name, *arguments = command
    try:
        ended = subprocess.run(
            [TOOLS / name, *arguments],
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except OSError as error:
        raise ToolError(f"{name}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name}: no answer within {LONGEST_SECONDS} s") from error
    # pip-audit ends with 1 when it has found something, and says what.
    if ended.returncode and not ended.stdout:
        raise ToolError(f"{name}: {ended.stderr.strip().rpartition(chr(10))[2][:300]}")
    return ended.stdout


def main(command: str) -> int:
    """Do what was asked for."""
    try:
        return audit(LOCK, run_tool) if command == "audit" else sbom(LOCK, SBOM, run_tool)
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
