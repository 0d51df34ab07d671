"""The guard: improper answers are refused, and odd characters removed from proper ones."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.summarizer.answers import InvalidAnswerError, answer_schema, read_answer
from tests.support.adversarial import LINKS, MENDED_ANSWERS, NO_LINKS, REFUSED_ANSWERS
from tests.support.summaries import answer


@pytest.mark.parametrize("text", REFUSED_ANSWERS, ids=range(len(REFUSED_ANSWERS)))
def test_improper_answer_is_refused(text: str) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        read_answer(text)
    assert 0 < len(str(caught.value)) < 700


@pytest.mark.parametrize(("text", "summary"), MENDED_ANSWERS, ids=range(len(MENDED_ANSWERS)))
def test_odd_characters_are_removed(text: str, summary: str) -> None:
    assert read_answer(text).summary == summary


@pytest.mark.parametrize("link", LINKS)
def test_a_link_is_refused_however_it_is_written(link: str) -> None:
    with pytest.raises(InvalidAnswerError, match="must not contain a link"):
        read_answer(answer(next_action=f"Call Ada, see {link} for more."))
    with pytest.raises(InvalidAnswerError, match="must not contain a link"):
        read_answer(answer(summary=link))


@pytest.mark.parametrize("text", NO_LINKS)
def test_what_is_no_link_passes(text: str) -> None:
    sentence = f"Ada ({text}) waits."
    assert read_answer(answer(sentence, text)).summary == sentence


def test_scripts_and_emoji_survive() -> None:
    written = read_answer(answer("می‌خواهم 👩‍💻 東京", "Żółć: écrire à Ada"))
    assert written.summary == "می‌خواهم 👩‍💻 東京"
    assert written.next_action == "Żółć: écrire à Ada"


@given(st.text(max_size=1_500), st.text(max_size=1_500))
def test_whatever_gets_through_can_be_stored_and_shown(summary: str, next_action: str) -> None:
    try:
        written = read_answer(answer(summary, next_action))
    except (InvalidAnswerError, TypeError):  # TypeError: no JSON can be made of lone surrogates
        return
    for text in (written.summary, written.next_action):
        assert 1 <= len(text) <= 1_000
        assert text == text.strip()
        assert not any(unicodedata.category(one) in {"Cc", "Cs", "Co", "Cn"} for one in text)


def test_schema_is_one_that_strict_mode_takes() -> None:
    schema = answer_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"]) == {"summary", "next_action"}
    assert {part["type"] for part in schema["properties"].values()} == {"string"}
