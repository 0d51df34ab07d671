"""Makes up people in the shape of Random User 1.4, the same ones for the same seed and page."""

import hashlib
import re
import unicodedata
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from mimesis import Address, Person
from mimesis.enums import Gender
from mimesis.keys import romanize
from mimesis.locales import Locale
from mimesis.random import Random

from devstack.standins.randomuser.nationalities import NATIONALITIES, Nationality
from devstack.standins.randomuser.query import NATS, Query

PORTRAITS = "https://randomuser.me/api/portraits"
# The latest moment in a person's life, so that the same seed stays the same person.
FROZEN_NOW = datetime(2022, 5, 23, 22, 16, 29, tzinfo=UTC)
EARLIEST_BIRTH = datetime(1944, 8, 25, tzinfo=UTC)
LATEST_BIRTH = FROZEN_NOW - timedelta(days=365 * 21)
EARLIEST_REGISTRATION = datetime(2002, 3, 21, tzinfo=UTC)
MEN_PORTRAITS, WOMEN_PORTRAITS = 99, 96

_ADJECTIVES = (
    "angry",
    "big",
    "blue",
    "crazy",
    "golden",
    "happy",
    "heavy",
    "lazy",
    "organic",
    "sad",
)
_ANIMALS = ("bear", "cat", "dog", "duck", "frog", "gorilla", "koala", "leopard", "mouse", "ostrich")
_PASSWORDS = ("alaska", "darkness", "gizmo", "harvard", "lekker", "magnum", "rhiannon", "skunk")
_TIMEZONES = (
    ("-12:00", "Eniwetok, Kwajalein"),
    ("-8:00", "Pacific Time (US & Canada)"),
    ("-4:00", "Atlantic Time (Canada), Caracas, La Paz"),
    ("-3:30", "Newfoundland"),
    ("0:00", "Western Europe Time, London, Lisbon, Casablanca"),
    ("+3:30", "Tehran"),
    ("+5:30", "Bombay, Calcutta, Madras, New Delhi"),
    ("+9:30", "Adelaide, Darwin"),
    ("+11:00", "Magadan, Solomon Islands, New Caledonia"),
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Letters that Unicode does not split into a plain one and a mark, each with what stands for it.
_SPELLINGS = """
đd Đd øo Øo ßss æae Æae ıi łl Łl œoe
اa بb پp تt ثs جj چch حh خkh دd ذz رr زz ژzh سs شsh صs ضz طt ظz عa غgh فf قq کk گg لl مm نn وv هh یy
"""  # noqa: RUF001  foreign letters are the point
_FOLDED = str.maketrans({spelling[0]: spelling[1:] for spelling in _SPELLINGS.split()})


class People:
    """A generator of people; one thread at a time may use it."""

    def __init__(self) -> None:
        self._random = Random()
        self._persons: dict[str, Person] = {}
        self._addresses: dict[str, Address] = {}

    def make(self, query: Query) -> list[dict[str, Any]]:
        page = "" if query.page == 1 else str(query.page)
        self._random.seed(f"{query.seed}{page}")
        now = datetime.now(UTC)
        return [self._one(query, now) for _ in range(query.results)]

    def _one(self, query: Query, now: datetime) -> dict[str, Any]:
        nat = self._random.choice(query.nats or NATS)
        nationality = NATIONALITIES[nat]
        gender = self._random.choice(("male", "female"))
        gender = query.gender or gender
        name = self._name(nationality, gender)
        return {
            "gender": gender,
            "name": name,
            "location": self._location(nationality),
            "email": _email(name["first"], name["last"]),
            "login": self._login(),
            "dob": self._moment(EARLIEST_BIRTH, LATEST_BIRTH, now),
            "registered": self._moment(EARLIEST_REGISTRATION, FROZEN_NOW, now),
            "phone": self._filled(nationality.phone),
            "cell": self._filled(nationality.cell),
            "id": {
                "name": nationality.id_name,
                "value": nationality.id_value and self._filled(nationality.id_value),
            },
            "picture": self._picture(gender),
            "nat": nat,
        }

    def _name(self, nationality: Nationality, gender: str) -> dict[str, str]:
        for_a_man, for_women = nationality.titles
        title = for_a_man if gender == "male" else self._random.choice(for_women)
        person = self._person(nationality.locale)
        kind = Gender.MALE if gender == "male" else Gender.FEMALE
        first = self._one_of(nationality.men if gender == "male" else nationality.women)
        last = self._one_of(nationality.families)
        return {
            "title": title,
            "first": first or _latin(person.first_name(gender=kind)),
            "last": last or _latin(person.last_name(gender=kind)),
        }

    def _location(self, nationality: Nationality) -> dict[str, Any]:
        offset, description = self._random.choice(_TIMEZONES)
        address = self._address(nationality.locale)
        street = _latin(address.street_name())
        return {
            "street": {"number": self._random.randint(1, 9999), "name": street},
            "city": self._one_of(nationality.cities) or _latin(address.city()),
            "state": self._one_of(nationality.states) or _latin(address.state()),
            "country": nationality.country,
            "postcode": self._post_code(nationality.post_code),
            "coordinates": {
                "latitude": f"{self._random.uniform(-90, 90):.4f}",
                "longitude": f"{self._random.uniform(-180, 180):.4f}",
            },
            "timezone": {"offset": offset, "description": description},
        }

    def _post_code(self, form: range | str) -> int | str:
        return self._filled(form) if isinstance(form, str) else self._random.choice(form)

    def _one_of(self, names: tuple[str, ...]) -> str | None:
        return self._random.choice(names) if names else None

    def _login(self) -> dict[str, str]:
        choose = self._random.choice
        password = choose(_PASSWORDS)
        salt = "".join(choose(_LETTERS + _LETTERS.lower() + "1234567890") for _ in range(8))
        salted = f"{password}{salt}".encode()
        return {
            "uuid": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "username": f"{choose(_ADJECTIVES)}{choose(_ANIMALS)}{self._random.randint(100, 999)}",
            "password": password,
            "salt": salt,
            # Digests of made-up passwords: they guard nothing.
            "md5": hashlib.md5(salted, usedforsecurity=False).hexdigest(),
            "sha1": hashlib.sha1(salted, usedforsecurity=False).hexdigest(),
            "sha256": hashlib.sha256(salted).hexdigest(),
        }

    def _moment(self, start: datetime, end: datetime, now: datetime) -> dict[str, Any]:
        span = (end - start) // timedelta(milliseconds=1)
        moment = start + timedelta(milliseconds=self._random.randint(0, span))
        had_birthday = (now.month, now.day) >= (moment.month, moment.day)
        return {
            "date": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "age": now.year - moment.year - (not had_birthday),
        }

    def _picture(self, gender: str) -> dict[str, str]:
        count = MEN_PORTRAITS if gender == "male" else WOMEN_PORTRAITS
        portrait = f"{'men' if gender == 'male' else 'women'}/{self._random.randint(0, count)}.jpg"
        return {
            "large": f"{PORTRAITS}/{portrait}",
            "medium": f"{PORTRAITS}/med/{portrait}",
            "thumbnail": f"{PORTRAITS}/thumb/{portrait}",
        }

    def _filled(self, pattern: str) -> str:
        return "".join(self._character(mark) for mark in pattern)

    def _character(self, mark: str) -> str:
        match mark:
            case "#":
                return self._random.choice("0123456789")
            case "%":
                return self._random.choice("23456789")
            case "@":
                return self._random.choice(_LETTERS)
            case "~":
                return self._random.choice(_LETTERS + "23456789")
            case _:
                return mark

    def _person(self, locale: str) -> Person:
        if locale not in self._persons:
            self._persons[locale] = Person(Locale(locale), random=self._random)
        return self._persons[locale]

    def _address(self, locale: str) -> Address:
        if locale not in self._addresses:
            self._addresses[locale] = Address(Locale(locale), random=self._random)
        return self._addresses[locale]


def _latin(name: str) -> str:
    """One spelling of a name, in Latin letters if it is Ukrainian, as in the original."""
    # Some of mimesis' names list two spellings, or end in an abbreviation's dot.
    name = re.split(r"[/|(]", name)[0].strip(" .")
    if not any("CYRILLIC" in unicodedata.name(letter, "") for letter in name):
        return name
    return _from_ukrainian(name).replace("\u2019", "")


_from_ukrainian = romanize(Locale.UK)


def _email(first: str, last: str) -> str:
    return f"{''.join(_ascii(first))}.{''.join(_ascii(last))}@example.com"


def _ascii(name: str) -> Iterator[str]:
    for letter in unicodedata.normalize("NFKD", name.translate(_FOLDED)).lower():
        if letter.isascii() and letter != " ":
            yield letter
