"""What an error of the driver means: a defect of ours, or a dependency that fails."""

import inspect

import asyncpg
import asyncpg.exceptions
import pytest

from shared.domain.errors import PermanentError, TransientError, UnavailableError
from shared.storage.pool import is_defect, translated_errors

DEFECTS = {"21", "22", "23", "44", "54"}
TRANSIENT = {"40", "P0", "57014", "55P03"}
# All else in class 42 passes once the schema, or a right, is there.
WRONG_STATEMENTS = {"42601", "42804", "42846", "42P02", "42P18"}


def server_errors() -> list[type[asyncpg.PostgresError]]:
    """Return every error of the server that the driver knows."""
    return [
        error
        for _, error in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(error, asyncpg.PostgresError) and getattr(error, "sqlstate", None)
    ]


def expected(error: type[asyncpg.PostgresError]) -> type[Exception]:
    """Return what the rest of the system gets to see of an error."""
    state: str = getattr(error, "sqlstate", "")
    if state[:2] in TRANSIENT or state in TRANSIENT:
        return TransientError
    is_defect = state[:2] in DEFECTS or state in WRONG_STATEMENTS
    return error if is_defect else UnavailableError


def translated(error: Exception) -> type[Exception]:
    """Return the type of what `error` becomes."""
    with pytest.raises(Exception) as raised, translated_errors():  # noqa: PT011 (the type is what is asked)
        raise error
    return raised.type


def test_every_error_of_the_server_has_a_meaning() -> None:
    errors = server_errors()
    assert len(errors) > 200
    wrong = [error for error in errors if translated(error("its words")) is not expected(error)]
    assert wrong == []


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state"),
        asyncpg.exceptions.OutdatedSchemaCacheError("changed"),
        asyncpg.exceptions.UnsupportedServerFeatureError("advisory locks"),
        asyncpg.UnknownPostgresError("no SQLSTATE that the driver knows"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_connection_is_an_outage(error: Exception) -> None:
    assert translated(error) is UnavailableError


def _raise_in(module: str, error: Exception) -> None:
    """Raise an error as a function of another module does."""
    names = {"__name__": module, "error": error}
    exec("def fail():\n    raise error", names)  # noqa: S102 (a constant)
    names["fail"]()  # type: ignore[operator]  # defined by the line before


@pytest.mark.parametrize("error", [TypeError, AttributeError, RuntimeError, ValueError])
def test_a_surprise_in_the_driver_is_an_outage(error: type[Exception]) -> None:
    """Python 3.13's loop raises `TypeError` for a write to a connection that was reset."""
    with pytest.raises(UnavailableError, match="is not callable"), translated_errors():
        _raise_in("asyncpg.protocol", error("'NoneType' object is not callable"))


@pytest.mark.parametrize("error", [TypeError, AttributeError, RuntimeError, ValueError])
def test_a_surprise_in_our_own_code_is_a_defect(error: type[Exception]) -> None:
    with pytest.raises(error), translated_errors():
        _raise_in("services.summarizer.storage.results", error("a defect"))
    assert is_defect(error("raised nowhere"))


def test_a_value_that_the_driver_cannot_send_is_a_defect() -> None:
    assert translated(asyncpg.DataError("invalid input for query argument $1")) is asyncpg.DataError


def test_errors_in_the_domain_s_terms_are_left_alone() -> None:
    assert translated(PermanentError("no", code="no")) is PermanentError
    assert translated(UnavailableError("away")) is UnavailableError
    assert translated(TransientError("again")) is TransientError


def test_the_row_that_failed_is_taken_out_of_an_error() -> None:
    error = asyncpg.CheckViolationError("violates a constraint")
    error.detail = "Failing row contains (Ada)"
    with pytest.raises(asyncpg.CheckViolationError), translated_errors():
        raise error
    assert getattr(error, "detail", "") is None
