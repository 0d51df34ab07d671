"""The prompt: facts stay facts, whatever strangers write into them."""

import hashlib
import re
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.summarizer import prompts
from services.summarizer.prompts import (
    LONGEST_FACT,
    PROMPT_VERSION,
    LeadFacts,
    repair_prompt,
    write_prompt,
)
from shared.domain.summary import FailureReason
from tests.support.adversarial import IN_LEAD_FIELDS
from tests.support.facts import facts

PAGE = Path(__file__).parents[3] / "docs" / "summaries.md"
TODAY = date(2026, 11, 24)
TEXTS = ("first_name", "last_name", "city", "state", "country", "source")


def quoted(user: str) -> dict[str, Any]:
    match = re.fullmatch(r".*?\n<lead>\n(.*)\n</lead>\n.*", user, re.DOTALL)
    assert match is not None
    found: dict[str, Any] = orjson.loads(match[1])
    return found


@pytest.mark.parametrize("payload", IN_LEAD_FIELDS)
def test_payload_stays_a_value_between_the_markers(payload: str) -> None:
    ordinary = write_prompt(facts(state="England"), today=TODAY)
    prompt = write_prompt(facts(**dict.fromkeys(TEXTS, payload)), today=TODAY)
    system, user = prompt.messages
    assert system == ordinary.messages[0]
    assert (user.content.count("<lead>"), user.content.count("</lead>")) == (1, 1)
    values = quoted(user.content)
    assert {values[name] for name in TEXTS} == {payload}
    around = user.content.replace(orjson.dumps(payload).decode()[1:-1], "")
    assert values.keys() == quoted(ordinary.messages[1].content).keys()
    assert len(around.splitlines()) == len(ordinary.messages[1].content.splitlines())


def test_there_are_enough_payloads() -> None:
    assert len(set(IN_LEAD_FIELDS)) >= 60


def test_facts_are_capped() -> None:
    prompt = write_prompt(facts(city="x" * 5_000), today=TODAY)
    assert len(quoted(prompt.messages[1].content)["city"]) == LONGEST_FACT


def test_facts_that_are_not_known_are_left_out() -> None:
    values = quoted(write_prompt(facts(city=None), today=TODAY).messages[1].content)
    assert values.keys() == {
        *("first_name", "last_name", "country", "status", "source", "created_on", "missing"),
    }


def test_repair_quotes_no_more_than_some_of_a_failed_answer() -> None:
    prompt = write_prompt(facts(), today=TODAY)
    repair = repair_prompt(prompt, answer="x" * 100_000, complaint="answer: Invalid JSON")
    assert [message.role for message in repair.messages] == ["system", "user", "assistant", "user"]
    assert repair.messages[:2] == prompt.messages
    assert repair.length < prompt.length + 3_000
    assert "Invalid JSON" in repair.messages[3].content


def test_changed_words_have_a_new_version() -> None:
    """Words and version belong together: when the words change, so do version and digest."""
    person = LeadFacts(
        first_name="A", last_name="B", status="new", source="manual", created_on=TODAY
    )
    prompt = write_prompt(person, today=TODAY)
    repair = repair_prompt(prompt, answer="{}", complaint="c")
    words = "\n".join(message.content for message in repair.messages)
    digest = hashlib.sha256(words.encode()).hexdigest()[:16]
    assert (PROMPT_VERSION, digest) == ("2026-11-24", "c8aa117d2756cf60")


def test_page_quotes_the_prompt_and_its_version() -> None:
    page = PAGE.read_text()
    assert f"`{PROMPT_VERSION}`" in page
    for words in (prompts.SYSTEM, prompts.USER, prompts.REPAIR):
        assert f"```text\n{words}\n```" in page


def test_page_names_every_reason_of_failure() -> None:
    page = PAGE.read_text()
    for reason in FailureReason:
        assert f"| `{reason}` |" in page
