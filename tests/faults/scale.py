"""The suite's two scales, the short one of every `make test` and `FULL=1`, and its seed."""

import os
import random

FULL = os.environ.get("FULL", "0") not in {"", "0"}
# In the environment, so that all processes of `pytest -n` have the same.
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
os.environ["SEED"] = str(SEED)


def scaled(short: int, full: int) -> int:
    """Return the figure for the scale that runs."""
    return full if FULL else short
