"""Replaces itself with a command that ends when the process that started it dies.

Run as a script: `python -I -S parent_death.py PARENT_PID SIGNAL USER_ID GROUP_ID PROGRAM...`. It is
no `preexec_fn`, as Python code between fork and exec is unsafe in a process that has threads. `-`
for the two ids keeps the caller's. Imports nothing late: the new user may not read the interpreter.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.5
EXIT_CANNOT_RUN = 126


def main(arguments: list[str]) -> None:
    parent, death_signal = int(arguments[0]), signal.Signals(int(arguments[1]))
    user_id, group_id, *command = arguments[2:]
    if sys.platform != "linux":
        start_watcher(parent, death_signal)
    if user_id != "-":
        change_user(int(user_id), int(group_id))
    if sys.platform == "linux":
        # The kernel forgets the request when the user changes, so it comes after change_user().
        request_death_signal(death_signal)
        if os.getppid() != parent:  # it died before the kernel was asked
            sys.exit(EXIT_CANNOT_RUN)
    try:
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def change_user(user_id: int, group_id: int) -> None:
    os.setgroups([])
    os.setgid(group_id)
    os.setuid(user_id)


def request_death_signal(death_signal: signal.Signals) -> None:
    """Asks Linux to send the signal when the thread that forked this process ends; see prctl(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def start_watcher(parent: int, death_signal: signal.Signals) -> None:
    """Starts a small process that does what Linux does by itself, for macOS and the BSDs.

    Forked twice, so that the command does not find a child it never started.
    """
    command = os.getpid()
    if (middle := os.fork()) != 0:
        os.waitpid(middle, 0)
        return
    if os.fork() == 0:
        close_pipes()
        watch(parent, command, death_signal)
    os._exit(0)


def close_pipes() -> None:
    """A reader of the command's output must see its end when the command ends."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


def watch(parent: int, command: int, death_signal: signal.Signals) -> None:
    while is_alive(command):
        if not is_alive(parent):
            os.kill(command, death_signal)
            return
        time.sleep(POLL_SECONDS)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
