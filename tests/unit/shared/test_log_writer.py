"""Log lines are written together, in order, and none stays behind."""

import asyncio
import io
import threading

import pytest

from shared.observability.log_writer import LogWriter


class Writes(io.BytesIO):
    """A file that counts the writes to it."""

    count = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride] (bytes alone)
        self.count += 1
        return super().write(data)


@pytest.mark.parametrize("lines", [1, 2, 100])
def test_lines_of_one_turn_are_one_write(lines: int) -> None:
    file = Writes()
    writer = LogWriter(file)

    async def two_turns() -> None:
        for _ in range(2):
            for number in range(lines):
                writer.info(b"%d" % number)
            await asyncio.sleep(0)

    asyncio.run(two_turns())
    assert file.getvalue().splitlines() == [b"%d" % number for number in range(lines)] * 2
    assert file.count == 2


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
