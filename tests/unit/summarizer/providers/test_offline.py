"""The offline writer: readable sentences, and a next action that fits the lead."""

import itertools
from datetime import date, timedelta

import pytest

from services.summarizer.answers import read_answer
from services.summarizer.prompts import write_prompt
from services.summarizer.providers.offline import OfflineProvider, write
from shared.domain.lead import LeadSource, LeadStatus
from tests.support.adversarial import IN_LEAD_FIELDS
from tests.support.facts import facts

TODAY = date(2026, 11, 24)
SOME_TIME = timedelta(seconds=1)


def test_it_reads_well() -> None:
    text = write(facts(missing=("phone",)), today=TODAY)
    assert text.summary == (
        "Ada Lovelace from London, United Kingdom was entered by hand on 23 November 2026. "
        "Nobody has been in touch yet. The record still lacks a phone number."
    )
    assert text.next_action == (
        "Write an e-mail to Ada within a day: refer to the conversation in which the details "
        "were taken down, and ask for a phone number."
    )


def test_next_action_depends_on_status_age_source_and_what_is_missing() -> None:
    cases = [
        facts(status=status, source=source, created_on=TODAY - timedelta(days=age), missing=missing)
        for status, source, age, missing in itertools.product(
            LeadStatus, LeadSource, (0, 7, 60), ((), ("phone",))
        )
    ]
    actions = {write(case, today=TODAY).next_action for case in cases}
    assert len(actions) >= 20
    for status in LeadStatus:
        of_status = {
            write(case, today=TODAY).next_action for case in cases if case.status == status
        }
        others = {write(case, today=TODAY).next_action for case in cases if case.status != status}
        assert not of_status & others


def test_same_lead_same_words() -> None:
    assert write(facts(), today=TODAY) == write(facts(), today=TODAY)


@pytest.mark.parametrize("missing", [("phone", "city", "country"), ("city",), ()])
@pytest.mark.parametrize("status", [*LeadStatus, "unheard-of"])
@pytest.mark.parametrize("source", [*LeadSource, "unheard-of"])
async def test_answers_are_proper(status: str, source: str, missing: tuple[str, ...]) -> None:
    prompt = write_prompt(
        facts(status=status, source=source, missing=missing, city=None, country=None), today=TODAY
    )
    completion = await OfflineProvider().complete(prompt, timeout=SOME_TIME)
    written = read_answer(completion.text)
    for text in (written.summary, written.next_action):
        assert text.endswith(".")
        assert "None" not in text
        assert "  " not in text


async def test_longest_and_oddest_names_fit() -> None:
    for payload in (*IN_LEAD_FIELDS, "W" * 50):
        prompt = write_prompt(facts(first_name=payload, last_name=payload), today=TODAY)
        completion = await OfflineProvider().complete(prompt, timeout=SOME_TIME)
        assert len(completion.text) < 2_000
