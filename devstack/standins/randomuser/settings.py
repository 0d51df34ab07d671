"""How the Random User stand-in is set, and what can go wrong with it on demand."""

from pathlib import Path

from devstack.standins.serving import Faults, ListenSettings


class RandomUserFaults(Faults):
    """`body` is answered as it is, with status 200 and as JSON, whatever it says."""

    body: str | None = None


class RandomUserSettings(ListenSettings):
    """The environment of the Random User stand-in.

    `users_file` holds `{"results": [...]}`; its users are served page by page instead of made-up
    ones.
    """

    users_file: Path | None = None
    faults: RandomUserFaults = RandomUserFaults()
