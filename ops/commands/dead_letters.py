"""`ops dead-letters`."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from ops.environment import settings
from ops.output import as_json, confirm, print_json, print_table, yes
from ops.running import open_servers, operator, run
from ops.selecting import LARGEST_NUMBER, Text, limit
from shared.administration.dead_letters import DeadLetters, RetryReport
from shared.settings import PostgresSettings
from shared.storage.admin_log import AdminLog
from shared.storage.dead_letters import (
    DeadLetterRepository,
    KeptLetter,
    LetterCount,
    LetterSelection,
)
from shared.storage.pool import open_database

LETTER = click.IntRange(1, LARGEST_NUMBER)


def _selecting(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--event", "event_id", type=Text(), help="Only this event's."),
        click.option("--type", "type", type=Text(), help="Only of this event type."),
        click.option("--group", type=Text(), help="Only of this consumer group."),
        click.option("--reason", type=Text(), help="Only with this reason."),
    ):
        function = option(function)
    return function


@click.group("dead-letters")
def command() -> None:
    """List, show, retry and discard dead letters."""


@command.command("list")
@_selecting
@limit
@click.option("--summary", is_flag=True, help="Count by group, type and reason instead.")
@as_json
def list_letters(*, limit: int, summary: bool, as_json: bool, **conditions: Any) -> None:
    """List dead letters, newest first."""
    selection = LetterSelection(**conditions)
    if summary:
        _print_counts(run(_counts(selection)), as_json=as_json)
    else:
        _print_letters(run(_letters(selection, limit=limit)), as_json=as_json)


@command.command("show")
@click.argument("letter_id", type=LETTER)
@as_json
def show_letter(*, letter_id: int, as_json: bool) -> None:
    """Show one dead letter with the whole event."""
    letters = run(_letters(LetterSelection(ids=(letter_id,)), limit=1))
    if not letters:
        raise click.ClickException(f"There is no dead letter {letter_id}")
    if as_json:
        print_json(letters[0])
        return
    letter = asdict(letters[0].letter)
    fields = letter.pop("fields")
    for name, value in [*letter.items(), ("dead_at", letters[0].dead_at), *fields.items()]:
        click.echo(f"{name:<16} {value}")


@command.command("retry")
@click.argument("ids", nargs=-1, type=LETTER)
@_selecting
@yes
@as_json
def retry_letters(*, ids: tuple[int, ...], yes: bool, as_json: bool, **conditions: Any) -> None:
    """Put dead letters back into their streams.

    IDS are letters' numbers. Each event goes to the group that parked it, as a first attempt;
    no client is answered. The letter is removed once its event is back in the stream.
    """
    selection = LetterSelection(ids=ids, **conditions)
    number = _number(selection)
    confirm(f"Retry {number} dead letters?", yes=yes)
    report = run(_retry(selection))
    if as_json:
        print_json(report)
        return
    click.echo(f"{report.retried} put back.")
    if report.hopeless:
        click.echo(f"{report.hopeless} were never events and stay.")


@command.command("discard")
@click.argument("ids", nargs=-1, type=LETTER)
@_selecting
@yes
@as_json
def discard_letters(*, ids: tuple[int, ...], yes: bool, as_json: bool, **conditions: Any) -> None:
    """Remove dead letters for good.

    IDS are letters' numbers. What the events asked for will not happen.
    """
    selection = LetterSelection(ids=ids, **conditions)
    number = _number(selection)
    confirm(f"Discard {number} dead letters for good?", yes=yes)
    discarded = run(_discard(selection))
    if as_json:
        print_json({"discarded": discarded})
    else:
        click.echo(f"{discarded} discarded.")


def _number(selection: LetterSelection) -> int:
    if selection == LetterSelection():
        raise click.UsageError("Say which: give ids, --reason, --group, --type or --event.")
    return sum(count.count for count in run(_counts(selection)))


async def _counts(selection: LetterSelection) -> list[LetterCount]:
    async with open_database(settings(PostgresSettings)) as database:
        return await DeadLetterRepository(database).counts(selection)


async def _letters(selection: LetterSelection, *, limit: int) -> list[KeptLetter]:
    async with open_database(settings(PostgresSettings)) as database:
        return await DeadLetterRepository(database).page(selection, limit=limit)


async def _retry(selection: LetterSelection) -> RetryReport:
    async with (
        open_servers() as servers,
        AdminLog(servers.database).recording(
            "dead-letters retry", actor=operator(), detail=_conditions(selection)
        ) as recording,
    ):
        report = await DeadLetters(servers.redis, servers.database).retry(selection)
        recording.affected = report.retried
        return report


async def _discard(selection: LetterSelection) -> int:
    async with (
        open_servers() as servers,
        AdminLog(servers.database).recording(
            "dead-letters discard", actor=operator(), detail=_conditions(selection)
        ) as recording,
    ):
        discarded = await DeadLetters(servers.redis, servers.database).discard(selection)
        recording.affected = discarded
        return discarded


def _conditions(selection: LetterSelection) -> dict[str, Any]:
    return {name: value for name, value in asdict(selection).items() if value}


def _print_counts(counts: list[LetterCount], *, as_json: bool) -> None:
    if as_json:
        print_json(counts)
        return
    print_table(
        ("group", "type", "reason", "#letters", "first", "last"),
        (tuple(asdict(count).values()) for count in counts),
    )


def _print_letters(letters: list[KeptLetter], *, as_json: bool) -> None:
    if as_json:
        print_json(letters)
        return
    print_table(
        ("#id", "parked", "group", "type", "reason", "#attempts", "event", "error"),
        (
            (
                str(kept.id),
                kept.dead_at,
                kept.letter.group,
                kept.letter.type,
                kept.letter.reason,
                kept.letter.attempts,
                kept.letter.event_id,
                kept.letter.error,
            )
            for kept in letters
        ),
    )
