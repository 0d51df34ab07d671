"""`python -m devstack.standins.groq`."""

from devstack.standins.groq.app import create_app
from devstack.standins.groq.settings import GroqSettings
from devstack.standins.serving import serve, settings_or_exit

if __name__ == "__main__":
    settings = settings_or_exit(GroqSettings)
    serve("Groq", create_app(settings), listen=settings)
