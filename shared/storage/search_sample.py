"""Which parts of a word find few leads: the index of trigrams is asked for those alone.

PostgreSQL reads the list of every trigram of a pattern to its end, and of a million leads those of
`@example.com` alone are a million entries each: 45 ms of the 46 that a search took.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

TRIGRAM = 3
# A trigram in more of the leads than this costs more than it saves.
COMMON = 0.05
# Parts that more leads than this have are too many to look through: the index does it better.
FEW = 0.005
# Trigrams are counted in every fourth text: they are told apart by far less.
COUNTED = 4

# What folding leaves as it is, but for the case. It is cut here and folded by PostgreSQL.
_parts = re.compile(r"[A-Za-z0-9]{3,}").findall


class TextSample:
    """Some of the texts that leads are searched by, each one folded; none tells nothing."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._texts = texts
        counted = texts[::COUNTED]
        number = Counter(trigram for text in counted for trigram in set(_trigrams(text)))
        self._common = {
            trigram for trigram, times in number.items() if times > COMMON * len(counted)
        }

    def rare_parts(self, word: str) -> tuple[str, ...]:
        """Return the parts of a word without common trigrams; none where many leads have them."""
        parts = tuple(part for letters in _parts(word) for part in self._without_common(letters))
        return parts if parts and self._few_have(parts) else ()

    def _without_common(self, letters: str) -> Iterator[str]:
        trigrams = enumerate(_trigrams(letters.lower()))
        for is_common, run in groupby(trigrams, key=lambda one: one[1] in self._common):
            if not is_common:
                places = [place for place, _ in run]
                yield letters[places[0] : places[-1] + TRIGRAM]

    def _few_have(self, parts: Sequence[str]) -> bool:
        folded = [part.lower() for part in parts]
        having = sum(all(part in text for part in folded) for text in self._texts)
        return bool(self._texts) and having <= FEW * len(self._texts)


def _trigrams(text: str) -> Iterator[str]:
    return (text[place : place + TRIGRAM] for place in range(len(text) - TRIGRAM + 1))
