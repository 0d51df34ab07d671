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
    code = 1
    try:
        run()
        code = 0
    except SystemExit as end:
        code = _code_of(end)
    except BaseException:  # noqa: BLE001 (nothing may get past the fork)
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _code_of(end: SystemExit) -> int:
    """Return the exit code, as Python does; what is not a number is printed."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1
