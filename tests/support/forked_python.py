"""An interpreter for others: `python -m MODULE ARGUMENTS` is forked, the rest runs as it is.

`fork_server` puts it beside its socket. The process has this one's streams, environment and
directory, gets its signals, and its end is this one's; it takes this file for its `sys.executable`.
"""

import json
import os
import signal
import socket
import sys


def main(option: str, *arguments: str) -> None:
    """Run as the arguments say."""
    if option != "-m":
        os.execv(sys.executable, [sys.executable, option, *arguments])  # noqa: S606 (no shell)
    code = forked(*arguments)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def forked(module: str, *arguments: str) -> int:
    """Have the module run; returns its exit code, negative for a signal."""
    request = {
        "module": module,
        "arguments": arguments,
        "environment": dict(os.environ),
        "directory": os.getcwd(),  # noqa: PTH109 (pathlib takes longer to import than all this)
        "executable": sys.argv[0],
    }
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(os.path.dirname(sys.argv[0]), "socket"))  # noqa: PTH118, PTH120
    socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
    with connection.makefile() as answers:
        pid = int(answers.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: os.kill(pid, number))
        return int(answers.readline())


if __name__ == "__main__":
    main(*sys.argv[1:])
