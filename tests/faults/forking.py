"""Children by the dozen: forked from a process that has imported everything once."""

import os
import signal
import sys
import traceback
from collections.abc import Callable

from devstack.parent_death import request_death_signal


def fork(run: Callable[[], None]) -> int:
    """Run a function in a child that does not outlive this process; returns its pid."""
    child = os.fork()
    if child:
        return child
    if sys.platform == "linux":
        request_death_signal(signal.SIGKILL)
    try:
        run()
    except BaseException:  # noqa: BLE001 (nothing may get past the fork, not even SystemExit)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def killed(child: int) -> bool:
    """Wait for a child's end; returns whether SIGKILL ended it."""
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
