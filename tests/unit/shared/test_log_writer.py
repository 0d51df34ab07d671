"""Log lines are written together, in order, and none stays behind."""

import asyncio
import io
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from shared.observability.log_writer import PAUSE, LogWriter
from tests.support.eventually import eventually


class Writes(io.BytesIO):
    """A file that counts the writes to it."""

    count = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride] (bytes alone)
        self.count += 1
        return super().write(data)

    def holds(self, lines: int) -> Callable[[], Awaitable[bool]]:
        """Return what says whether so many lines have been written."""

        async def has_them() -> bool:
            return self.getvalue().count(b"\n") == lines

        return has_them


@pytest.mark.parametrize("lines", [1, 2, 100])
async def test_lines_of_one_turn_are_one_write_at_its_end(lines: int) -> None:
    file = Writes()
    writer = LogWriter(file)
    for number in range(lines):
        writer.info(b"%d" % number)
    assert file.count == 0
    await asyncio.sleep(0)
    assert file.getvalue().splitlines() == [b"%d" % number for number in range(lines)]
    assert file.count == 1


@pytest.mark.parametrize("turns", [2, 20, 500])
async def test_turns_that_follow_each_other_at_once_share_a_write(turns: int) -> None:
    file = Writes()
    writer = LogWriter(file)
    started = time.monotonic()
    for number in range(turns):
        writer.info(b"%d" % number)
        await asyncio.sleep(0)
    # The first turn's, and what came in each pause since.
    assert file.count <= 1 + (time.monotonic() - started) / PAUSE.total_seconds()
    await eventually(file.holds(turns))
    assert file.getvalue().splitlines() == [b"%d" % number for number in range(turns)]


async def test_after_a_pause_a_line_is_written_at_the_end_of_its_turn_again() -> None:
    file = Writes()
    writer = LogWriter(file)
    writer.info(b"first")
    writer.info(b"with it")
    await asyncio.sleep(0)
    writer.info(b"in the pause")
    await eventually(file.holds(3))
    quiet_since = time.monotonic()

    async def pause_is_over() -> bool:
        return time.monotonic() - quiet_since > PAUSE.total_seconds()

    await eventually(pause_is_over)
    writer.info(b"later")
    await asyncio.sleep(0)
    assert file.getvalue() == b"first\nwith it\nin the pause\nlater\n"


@pytest.mark.parametrize("level", ["warning", "error", "critical", "exception"])
async def test_a_warning_is_written_at_once_after_what_came_before(level: str) -> None:
    file = Writes()
    writer = LogWriter(file)
    writer.info(b"before")
    getattr(writer, level)(b"trouble")
    assert file.getvalue() == b"before\ntrouble\n"
    writer.info(b"after")
    await asyncio.sleep(0)
    assert file.getvalue() == b"before\ntrouble\nafter\n"


def test_without_an_event_loop_all_is_written_at_once() -> None:
    file = Writes()
    writer = LogWriter(file)
    writer.info(b"here")
    thread = threading.Thread(target=writer.info, args=(b"in a thread",))
    thread.start()
    thread.join()
    assert file.getvalue() == b"here\nin a thread\n"


def test_what_one_event_loop_left_the_next_writes() -> None:
    file = Writes()
    writer = LogWriter(file)

    async def say(line: bytes) -> None:
        writer.info(line)

    first = asyncio.new_event_loop()
    first.call_soon(first.stop)
    task = first.create_task(say(b"left"))
    first.run_forever()  # ends after this turn
    assert task.done()
    first.close()
    asyncio.run(say(b"next"))
    assert file.getvalue() == b"left\nnext\n"
