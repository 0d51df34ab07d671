"""`python -m devstack.standins.randomuser`."""

from devstack.standins.randomuser.app import create_app
from devstack.standins.randomuser.settings import RandomUserSettings
from devstack.standins.serving import serve, settings_or_exit

if __name__ == "__main__":
    settings = settings_or_exit(RandomUserSettings)
    serve("Random User", create_app(settings), listen=settings)
