"""One stack a directory, and the file that describes it to other commands."""

from pathlib import Path

import pytest
from dotenv import dotenv_values

from devstack.data_directory import DirectoryInUseError, locked, write_stack_file


def test_a_second_stack_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "data"),
        pytest.raises(DirectoryInUseError, match=r"pid \d+"),
        locked(tmp_path / "data"),
    ):
        pass


def test_the_directory_is_free_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "data"):
            pass


def test_two_directories_do_not_mind_each_other(tmp_path: Path) -> None:
    with locked(tmp_path / "one"), locked(tmp_path / "two"):
        pass


def test_the_stack_file_is_read_back_and_closed_to_others(tmp_path: Path) -> None:
    environment = {
        "REDIS_URL": "redis://:p#w@h/0",
        "QUOTED": 'it\'s "so" \\ here',
        "EMPTY": "",
        "LINES": "a\nb",
    }
    path = write_stack_file(tmp_path, environment)
    assert dotenv_values(path) == environment | {"STACK_DATA_DIR": str(tmp_path)}
    assert path.stat().st_mode & 0o077 == 0
