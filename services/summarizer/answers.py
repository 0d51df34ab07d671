"""The check between a model and everything else: an invalid answer goes no further."""

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shared.domain.summary import MAX_LENGTH, SummaryText

# Far more than two texts of a valid length take up, however they are escaped.
LONGEST_ANSWER = 30_000

# Joiners that some scripts and emoji need, among the invisible characters that are removed.
_NEEDED = {"\u200c", "\u200d"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}

# A lead's facts hold no link, so one in an answer comes from an injected instruction.
_LINK = re.compile(r"[a-z][a-z0-9+.-]{1,15}://|\bwww\.|\bjavascript:|\bdata:text", re.IGNORECASE)


class InvalidAnswerError(Exception):
    """The model's answer is invalid; the message, which the model gets too, says why."""


def _clean(text: str) -> str:
    """Normalise, turn white space into single spaces, and drop invisible characters."""
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    visible = "".join(
        character
        for character in spaced
        if character in _NEEDED or unicodedata.category(character) not in _INVISIBLE
    )
    return " ".join(visible.split())


def _checked(text: str) -> str:
    cleaned = _clean(text)
    if not any(character.isalnum() for character in cleaned):
        raise PydanticCustomError("empty", "must not be empty")
    if len(cleaned) > MAX_LENGTH:
        raise PydanticCustomError(
            "too_long", "must have at most {most} characters", {"most": MAX_LENGTH}
        )
    if _LINK.search(cleaned):
        raise PydanticCustomError("link", "must not contain a link")
    return cleaned


AnswerText = Annotated[str, AfterValidator(_checked)]


class Answer(BaseModel):
    """The JSON that the model has to write: these two texts and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")

    summary: AnswerText = Field(description="Two to four sentences about the lead.")
    next_action: AnswerText = Field(
        description="One sentence: what the salesperson should do next."
    )


def answer_schema() -> dict[str, Any]:
    """Return the JSON schema of an answer, in the form that strict mode asks for."""
    return Answer.model_json_schema()


def read_answer(text: str) -> SummaryText:
    """Return what the model wrote; raises `InvalidAnswerError`."""
    if len(text) > LONGEST_ANSWER:
        raise InvalidAnswerError("The answer is far too long.")
    try:
        answer = Answer.model_validate_json(text)
    except ValidationError as error:
        raise InvalidAnswerError(_complaint(error)) from None
    return SummaryText(answer.summary, answer.next_action)


def _complaint(error: ValidationError) -> str:
    # Without the input: the message goes to the log as well.
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))[:50] or 'answer'}: {problem['msg'][:100]}"
        for problem in problems[:4]
    )
