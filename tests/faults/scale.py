"""The suite's two scales, the short one of every `make test` and `FULL=1`, its seed and order."""

import os
import random

FULL = os.environ.get("FULL", "0") not in {"", "0"}
# In the environment, so that all processes of `pytest -n` have the same.
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
os.environ["SEED"] = str(SEED)

# The promises that are tried on a running system, which one process starts for all of them.
OF_THE_SYSTEM = ("i01", "i03", "i04", "i10", "i12", "i14")


def scaled(short: int, full: int) -> int:
    """Return the figure for the scale that runs."""
    return full if FULL else short
