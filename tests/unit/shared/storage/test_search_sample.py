"""Which parts of a word are looked up, by what a sample of the leads' texts has."""

import pytest

from shared.storage.search_sample import TextSample

# Numbers from one digit to four; one lead in two hundred is a Quixote.
TEXTS = [
    f" ada {'quixote' if number % 200 == 0 else 'lovelace'} {number} ada.{number}@example.com"
    for number in range(2_000)
]
SAMPLE = TextSample(TEXTS)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        # What all leads have is left out, whatever stands beside it.
        ("ada.1480@example.com", ("1480",)),
        ("1480", ("1480",)),
        ("AdaQuixote", ("daQuixote",)),
        ("ada-zuse@example", ("zuse",)),
        # What nobody has is as rare as can be.
        ("zuse", ("zuse",)),
        # The mark of an accent is a border.
        ("jose\u0301zuse", ("jose", "zuse")),
        # Nothing of it is rare, or too short for the index.
        ("lovelace", ()),
        ("example.com", ()),
        ("1@example", ()),
        ("a", ()),
        ("李小龍", ()),
        ("", ()),
    ],
)
def test_parts_that_few_leads_have_are_looked_up(word: str, parts: tuple[str, ...]) -> None:
    assert SAMPLE.rare_parts(word) == parts


def test_parts_that_many_leads_have_are_left_to_the_index() -> None:
    """Of a hundred leads in two thousand: none of its trigrams is common, and all are too many."""
    texts = [f" {'smith' if number % 25 == 0 else 'jones'} {number}" for number in range(2_000)]

    assert TextSample(texts).rare_parts("smith") == ()
    assert TextSample(texts).rare_parts("smithers") == ("smithers",)


def test_nothing_is_known_without_a_sample() -> None:
    assert TextSample().rare_parts("1480") == ()
