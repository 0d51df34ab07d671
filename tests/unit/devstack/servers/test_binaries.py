"""Which binaries are run."""

from pathlib import Path

import pytest

from devstack.servers.binaries import (
    BinaryNotFoundError,
    package_directory,
    postgres_directory,
    valkey_server,
)


def test_the_wheels_have_them() -> None:
    assert (postgres_directory({}) / "initdb").is_file()
    assert valkey_server({}).is_file()


def test_pg_bin_is_preferred(tmp_path: Path) -> None:
    (tmp_path / "postgres").touch()
    assert postgres_directory({"PG_BIN": str(tmp_path)}) == tmp_path


def test_pg_bin_without_a_postgres_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BinaryNotFoundError, match="PG_BIN"):
        postgres_directory({"PG_BIN": str(tmp_path)})


def test_an_empty_override_is_none() -> None:
    empty = {"PG_BIN": "", "VALKEY_BIN": "", "REDIS_BIN": ""}
    assert postgres_directory(empty) == postgres_directory({})
    assert valkey_server(empty) == valkey_server({})


def test_the_error_for_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(BinaryNotFoundError, match="no-such-package is not installed"):
        package_directory("no_such_package")
