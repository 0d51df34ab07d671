"""The lock under which a suspect entry runs alone."""

import asyncio

from shared.streams.consuming.consumer import RWLock


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_readers_share_and_a_writer_is_alone() -> None:
    lock, log = RWLock(), list[str]()
    release = asyncio.Event()

    async def read(name: str) -> None:
        async with lock.reader():
            log.append(name)
            await release.wait()

    async def write() -> None:
        async with lock.writer():
            log.append("writer")
            await asyncio.sleep(0)
            log.append("written")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read("a"))
        tasks.create_task(read("b"))
        await settle()
        tasks.create_task(write())
        await settle()
        tasks.create_task(read("c"))
        await settle()
        assert log == ["a", "b"], "a reader overtook a waiting writer"
        release.set()
    assert log == ["a", "b", "writer", "written", "c"]


async def test_a_writer_that_gives_up_lets_the_readers_go_on() -> None:
    lock = RWLock()
    async with lock.reader():
        writing = asyncio.create_task(lock.writer().__aenter__())
        await settle()
        writing.cancel()
        await settle()
        async with asyncio.timeout(1), lock.reader():
            pass
    async with asyncio.timeout(1), lock.writer():
        pass


async def test_a_reader_that_is_cancelled_holds_nothing() -> None:
    lock = RWLock()
    async with lock.writer():
        reading = asyncio.create_task(lock.reader().__aenter__())
        await settle()
        reading.cancel()
        await settle()
    async with asyncio.timeout(1), lock.writer():
        pass
