"""`python -m devstack`: runs the whole stack until Ctrl-C; this is what `make run` starts."""

import asyncio
import signal
import sys

from devstack import CannotRunError
from devstack.console import Console
from devstack.environment import make_plan, read_environment
from devstack.stack import run_stack

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Returns the exit code: 0 after a signal to stop, 1 when the stack could not run."""
    failed = False
    try:
        asyncio.run(run_until_signalled(Console()))
    except* CannotRunError as group:
        failed = True
        print_reasons(group)
    return int(failed)


async def run_until_signalled(console: Console) -> None:
    """The first signal stops the stack in order, a second kills what is left of it."""
    plan = make_plan(read_environment())
    stack = asyncio.create_task(run_stack(plan, console), name="stack")
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not stack.cancelling():
            console.say("Stopping. Once more to kill.")
        stack.cancel()

    for each in STOP_SIGNALS:
        loop.add_signal_handler(each, stop)
    await asyncio.wait([stack])
    if not stack.cancelled():
        stack.result()


def print_reasons(group: BaseExceptionGroup[CannotRunError]) -> None:
    """Writes the reasons, which come in groups within groups from tasks within tasks."""
    for reason in group.exceptions:
        if isinstance(reason, CannotRunError):
            sys.stderr.write(f"{reason}\n")
        else:
            print_reasons(reason)


if __name__ == "__main__":
    sys.exit(main())
