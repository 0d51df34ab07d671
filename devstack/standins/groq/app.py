"""Joins the parts of the Groq stand-in."""

import time

from aiohttp import web

from devstack.standins.groq.completions import Completions
from devstack.standins.groq.rate_limits import RateLimits
from devstack.standins.groq.settings import GroqSettings
from devstack.standins.serving import Control, install


def create_app(settings: GroqSettings) -> web.Application:
    control = Control(settings.faults)
    completions = Completions(control, RateLimits(time.monotonic))
    app = web.Application(middlewares=[completions.answer_as_groq])
    for api in ("/openai/v1", "/v1"):
        app.router.add_post(f"{api}/chat/completions", completions.create)
        app.router.add_get(f"{api}/models", completions.list_models)
    install(app, control, refuse=completions.refuse)
    return app
