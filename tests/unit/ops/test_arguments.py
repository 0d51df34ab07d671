"""Whatever a command is given, it ends with a clear error or does what it says: no traceback."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ops.cli import COMMANDS, cli

NOWHERE = {
    "ENV_FILE": "",
    "SUPABASE_CONNECTION_STRING": "postgresql://postgres:x@127.0.0.1:9/leads",
    "REDIS_URL": "redis://127.0.0.1:9/0",
}
# Bad for every argument there is.
NEVER_GOOD = ("", "a\0b")
HOSTILE = (
    *("-1", "9" * 400, "nan", "-inf", "٣", "foo", "../..", "\udcff", "🏴‍☠️"),
    *("99999999999d", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00+14:00"),
    *("0190B2A4-0000-7000-8000-000000000000", "18446744073709551616-0"),
)
# Commands that would do their work for ever, and where an argument is no value.
ENDLESS = ("--watch",)


def commands(name: str = "", command: click.Command | None = None) -> Iterator[str]:
    """Yield the names of all commands, those within others included."""
    if command is None:
        for first, (module, _) in COMMANDS.items():
            yield from commands(first, import_module(module).command)
    elif isinstance(command, click.Group):
        for inner, one in command.commands.items():
            yield from commands(f"{name} {inner}", one)
    else:
        yield name


def command_of(name: str) -> click.Command:
    first, *inner = name.split()
    command: click.Command = import_module(COMMANDS[first][0]).command
    for part in inner:
        assert isinstance(command, click.Group)
        command = command.commands[part]
    return command


def parameters() -> Iterator[tuple[str, str]]:
    """Yield every argument and option that takes a value, of every command."""
    for name in commands():
        for parameter in command_of(name).params:
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                yield name, parameter.opts[0]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=NOWHERE)


def call(name: str, parameter: str, value: str) -> Result:
    command = command_of(name)
    given: list[str] = []
    for one in command.params:
        if one.opts[0] == parameter:
            given += [f"{parameter}={value}"] if parameter.startswith("-") else ["--", value]
        elif one.required and isinstance(one, click.Option):
            given = [one.opts[0], "7", *given]
        elif one.required:
            given += ["/dev/null" if one.name == "path" else "7"]
        elif one.name == "yes":
            given = ["--yes", *given]
        elif one.name == "origin":
            given = ["--from", "stream", *given]
    return invoke(*name.split(), *given)


def is_clear(result: Result) -> bool:
    """Return whether it ended with its own message, and not with whatever happened to it."""
    return result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(("name", "parameter"), list(parameters()))
def test_hostile_arguments(
    name: str, parameter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in NEVER_GOOD:
        result = call(name, parameter, value)
        assert (result.exit_code, is_clear(result)) == (2, True), (value, result.output)
    for value in HOSTILE:
        result = call(name, parameter, value)
        assert is_clear(result), (value, result.exception)
        assert result.exit_code in {1, 2}, (value, result.output)
        assert "Error: " in result.output, value


@pytest.mark.parametrize(
    "arguments",
    [
        "events --lead abc",
        "events --lead 0190b2a4",
        "events --limit -1",
        "events --limit 0",
        "events --since 99999999999d",
        "events --since 2026-03-02 --until 2026-03-01",
        "events --since 2026-03-01 --until 2026-03-01",
        "events --type lead-teleported",
        "export events --since 1h --until 2h",
        "replay --from stream --first foo",
        "replay --from stream --first 2-0 --last 1-9",
        "replay --from archive --since 2026-03-02 --until 2026-03-01",
        "replay --from archive --first 1-1",
        "replay --from stream --stream stream:replies",
        "replay --from stream --rate 0",
        "dead-letters list --limit 0",
        "dead-letters show 0",
        "dead-letters show 99999999999999999999",
        "dead-letters retry 1 two",
        "dead-letters retry",
        "sync --timeout 0",
        "sync --timeout nan",
        "summaries backfill --rate inf",
        "log --limit 100001",
        "streams stream:lead",
        "streams partition --to 257",
        "import events nowhere.ndjson",
        "import events .",
        "import leads nowhere.csv",
        "import leads . --dry-run",
        "import leads /dev/null --errors . --dry-run",
        "export leads --output .",
        "migrate everything",
        "doctor --strictly",
    ],
)
def test_wrong_use_ends_with_2(arguments: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2, result.output
    assert "Error: " in result.output


@pytest.mark.parametrize("kind", ["events", "leads"])
def test_a_file_that_is_not_there_is_found_before_anything_is_asked(kind: str) -> None:
    result = invoke("import", kind, "nowhere.ndjson")
    assert "does not exist" in result.output
    assert "[y/N]" not in result.output


def test_errors_are_not_written_over_the_file_that_is_read(tmp_path: Path) -> None:
    leads, link = tmp_path / "leads.csv", tmp_path / "link.csv"
    leads.write_text("firstName,lastName,email\n")
    link.symlink_to(leads)
    for errors in (leads, link, tmp_path / "." / "leads.csv"):
        result = invoke("import", "leads", str(leads), "--dry-run", "--errors", str(errors))
        assert result.exit_code == 2, result.output
        assert "--errors would overwrite" in result.output


@pytest.mark.parametrize("name", [name for name in commands() if name != "exporter"])
def test_every_command_has_json(name: str) -> None:
    names = {option for one in command_of(name).params for option in one.opts}
    assert "--json" in names
