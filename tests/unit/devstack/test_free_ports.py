"""Ports for servers: no two that start at the same time are given the same."""

import subprocess
import sys

from devstack.free_ports import CLAIMS_AT_MOST, free_port

# Without claims two of these would be the same in all but one of 30,000 runs.
TOLD = """\
import sys
from devstack.free_ports import free_port
print(*(free_port() for _ in range(int(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


def test_no_port_is_given_to_two_of_one_process_or_of_several() -> None:
    ours = [free_port() for _ in range(CLAIMS_AT_MOST)]
    other = subprocess.Popen(
        [sys.executable, "-c", TOLD, str(CLAIMS_AT_MOST)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        theirs = [int(port) for port in other.stdout.readline().split()]

    assert len({*ours, *theirs}) == 2 * CLAIMS_AT_MOST
