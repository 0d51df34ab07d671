"""The check between a model and everything else: an invalid answer goes no further."""

import functools
import ipaddress
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any

from publicsuffixlist import PublicSuffixList
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from shared.domain.summary import MAX_LENGTH, SummaryText

# Far more than two texts of a valid length take up, however they are escaped.
LONGEST_ANSWER = 30_000

# Joiners that some scripts and emoji need, among the invisible characters that are removed.
_NEEDED = {"\u200c", "\u200d"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}


class InvalidAnswerError(Exception):
    """The model's answer is invalid; the message, which the model gets too, says why."""


def _clean(text: str) -> str:
    """Normalise, turn white space into single spaces, and drop invisible characters."""
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    if spaced.isprintable():  # then no character is of such a category: the usual case
        return spaced
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
    if holds_link(cleaned):
        raise PydanticCustomError("link", "must not contain a link")
    return cleaned


# A lead's facts hold no link, so one in an answer comes from an injected instruction.

# What leads somewhere, or runs, whatever its host is.
_REFERENCE = re.compile(
    r"""
      [a-z][a-z0-9+.-]+:[/\\]+\S         # with any scheme: http, hxxp, ldap
    | (?<![\w:/\\])[/\\]{2}[^\s/\\]     # with that of the page: //host
    | \bwww\.
    | \b(?:javascript|vbscript|mailto|tel|sms|callto|magnet):\S
    | \bdata:[\w/+.-]*[;,]
    | \][(\[]\s*[^\s)\]]                # Markdown: [text](target), [text][label]
    | ^\s*\[[^\]]+\]:\s*\S
    | \b(?:href|src)\s*=
    """,
    re.IGNORECASE | re.VERBOSE,
)
# How dots and colons are written where a link is meant for people alone.
_DOT = re.compile(r"\s*[\[({]\s*(?:\.|dot)\s*[\])}]\s*|\s+dot\s+(?=[a-z]{3})", re.IGNORECASE)
_COLON = re.compile(r"[\[({]\s*:\s*(?://)?\s*[\])}](?://)?")
_FULL_STOP = "\u3002"

# One of these is in all that is found above, and what none is in need not be searched for it. Of
# plain sentences that is so; each search takes a tenth of the time.
_MAY_REFER = re.compile(r"[:/\\\]=]|www\.", re.IGNORECASE)
_MAY_BE_WRITTEN_OUT = re.compile(r"[\[({]|dot", re.IGNORECASE)
_MAY_BE_HOST = re.compile(r"\.[^\W_]")

_HOST = re.compile(r"(?<![^\W_])(?<!\.)(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W_](?:[\w-]*[^\W_])?")
# The rest of what stands before the @ of an e-mail address.
_TO_AT = re.compile(r"[\w.+'-]*@")
_PATH = re.compile(r"(?::\d+|[/?#]\S)")
# Top-level domains of documents and of networks of one's own (RFC 2606, 6761, 6762, 7686): no
# list of those on the internet has them.
_SPECIAL = {"example", "internal", "invalid", "local", "localhost", "onion", "test"}
# What has such an end is a file far more often than a host, unless a path goes on.
_FILES = {"md", "mov", "py", "rs", "sh", "zip"}
_NO_WORDS = {"com", "net", "org"}


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False, only_icann=True)


def holds_link(text: str) -> bool:
    """Whether a text has what its reader, or a program that shows it, could follow.

    With or without a scheme, and also when it is written to be read by people alone. An e-mail
    address is none.
    """
    plain = unicodedata.normalize("NFKC", text).replace(_FULL_STOP, ".")
    if _MAY_BE_WRITTEN_OUT.search(plain):
        plain = _COLON.sub("://", _DOT.sub(".", plain))
    if _MAY_REFER.search(plain) and _REFERENCE.search(plain):
        return True
    return _MAY_BE_HOST.search(plain) is not None and any(
        _is_link(plain, match.start(), match.end()) for match in _HOST.finditer(plain)
    )


def _is_link(text: str, start: int, end: int) -> bool:
    has_path = _PATH.match(text, end) is not None
    if _TO_AT.match(text, end) or (text[start - 1 : start] == "@" and not has_path):
        return False
    return _is_host(text[start:end], alone=not has_path)


def _is_host(name: str, *, alone: bool) -> bool:
    rest, _, end = name.rpartition(".")
    if not rest:
        return False
    if end.isdigit():
        return _is_address(name)
    if alone and end.istitle() and end.lower() not in _NO_WORDS:
        # A name, or a sentence after which a space was forgotten: `Dr.Green`, `Call her.It helps`.
        return _is_host(rest, alone=True)
    if alone and end in _FILES:
        return False
    return end.lower() in _SPECIAL or _public_suffixes().privatesuffix(name.lower()) is not None


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


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
    """Return what the model wrote; raises `InvalidAnswerError`.

    What a model thinks aloud is passed over, and so is what stands around its JSON.
    """
    answers, problem = set[SummaryText](), None
    for candidate in _candidates(text):
        try:
            answers.add(_read(candidate))
        except InvalidAnswerError as error:
            problem = error
    if len(answers) > 1:
        raise InvalidAnswerError("There is more than one answer.")
    if not answers:
        raise problem or InvalidAnswerError("There is no answer.")
    return answers.pop()


_THOUGHT_BEGINS, _THOUGHT_ENDS = (
    re.compile(rf"<{slash}think(?:ing)?>", re.IGNORECASE) for slash in ("", "/")
)
_DECODER = json.JSONDecoder()
# Beginnings of objects that are tried: an answer has one.
_MOST_BEGINNINGS = 50


def _candidates(text: str) -> list[str]:
    """Return the JSON objects among what the model wrote, or all of it where there is none."""
    if _object_end(text, 0) == len(text.rstrip()):
        return [text]
    # Some servers leave out where the thought begins; an answer that was cut off has no end.
    said = _THOUGHT_BEGINS.split(_THOUGHT_ENDS.split(text)[-1])[0]
    return list(_objects(said[: LONGEST_ANSWER + 1])) or [said]


def _objects(text: str) -> Iterator[str]:
    end = 0
    for match in itertools.islice(re.finditer(r"\{", text), _MOST_BEGINNINGS):
        start = match.start()
        # Those within another one are a part of it.
        if start >= end and (found := _object_end(text, start)):
            end = found
            yield text[start:end]


def _object_end(text: str, start: int) -> int:
    """Return where the JSON value that begins here ends; 0 for none."""
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return 0


def _read(text: str) -> SummaryText:
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
