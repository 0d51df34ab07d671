"""How the Groq stand-in is set, and what can go wrong with it on demand."""

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from devstack.standins.serving import Faults, ListenSettings, Seconds


class Dialect(StrEnum):
    """Whose habits the stand-in has: Groq's, or those of another server of the same protocol."""

    GROQ = "groq"
    OLLAMA = "ollama"
    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"


class GroqFaults(Faults):
    """`answers` are given once each, before `answer`, which is given every time.

    Both are passed on as they are, whatever response format was asked for. Servers other than
    Groq, by `dialect`, have any model, and know only the response `formats` that are named. With
    `usage` off they do not say what a call took. `reasoning` stands beside the answer.
    """

    dialect: Dialect = Dialect.GROQ
    formats: tuple[str, ...] = ("text", "json_object", "json_schema")
    usage: bool = True
    reasoning: str | None = None
    retry_after_is_date: bool = False

    answer: str | None = None
    answers: tuple[str, ...] = ()
    rate_limit_rpm: int | None = Field(default=None, ge=1)
    rate_limit_tpm: int | None = Field(default=None, ge=1)
    retry_after: Seconds = timedelta(seconds=2)


class GroqSettings(ListenSettings):
    """The environment of the Groq stand-in."""

    faults: GroqFaults = GroqFaults()
