"""Random User 1.4: people that do not exist, the same ones for the same seed and page.

Beyond `devstack.standins.serving.Faults`, `/_control` takes `body`, a text to answer as it is.
"""

from devstack.standins.randomuser.app import create_app
from devstack.standins.randomuser.settings import RandomUserFaults, RandomUserSettings

__all__ = ["RandomUserFaults", "RandomUserSettings", "create_app"]
