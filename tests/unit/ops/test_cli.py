"""The list of commands is right, and quick to print."""

import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from ops.cli import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_what_the_list_says(name: str) -> None:
    module, text = COMMANDS[name]
    command = import_module(module).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(limit=200) == text


def test_the_help_lists_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


def test_the_help_imports_no_driver() -> None:
    # What takes time is importing these: without them the help is there within 0.1 s.
    script = (
        "import sys; from click.testing import CliRunner; from ops.cli import cli; "
        "CliRunner().invoke(cli, ['--help']); "
        "print(*{'redis', 'asyncpg', 'pydantic', 'rich', 'yoyo'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == []


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(cli, ["reply"])
    assert result.exit_code == 2
    assert "No such command 'reply'" in result.output
