"""How the Groq stand-in is set, and what can go wrong with it on demand."""

from datetime import timedelta

from pydantic import Field

from devstack.standins.serving import Faults, ListenSettings, Seconds


class GroqFaults(Faults):
    """`answers` are given once each, before `answer`, which is given every time.

    Both are passed on as they are, whatever response format was asked for.
    """

    answer: str | None = None
    answers: tuple[str, ...] = ()
    rate_limit_rpm: int | None = Field(default=None, ge=1)
    rate_limit_tpm: int | None = Field(default=None, ge=1)
    retry_after: Seconds = timedelta(seconds=2)


class GroqSettings(ListenSettings):
    """The environment of the Groq stand-in."""

    faults: GroqFaults = GroqFaults()
