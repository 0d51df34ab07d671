"""The query parameters of Random User, read with the original's leniency: nonsense is ignored."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from devstack.standins.randomuser.nationalities import NATIONALITIES

MAX_RESULTS = 5_000
MAX_PAGE = 10_000
SEED_LENGTH = 16
FIELDS = frozenset(
    {
        *("gender", "name", "location", "email", "login", "registered"),
        *("dob", "phone", "cell", "id", "picture", "nat"),
    }
)
NATS = tuple(NATIONALITIES)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for. `nats` None is any of them, `gender` None either."""

    results: int
    page: int
    seed: str
    gender: str | None
    nats: tuple[str, ...] | None
    fields: frozenset[str]
    with_info: bool
    is_pretty: bool

    @property
    def reported_seed(self) -> str:
        """The seed of the `info` object: it carries a single nationality in its last two digits."""
        if self.nats is None or len(self.nats) != 1:
            return self.seed
        return f"{self.seed}{NATS.index(self.nats[0]):02x}"


def read_query(parameters: Mapping[str, str]) -> Query:
    seed = parameters.get("seed", "")
    gender = parameters.get("gender")
    nats = _nats(parameters.get("nat") or parameters.get("nationality"))
    if len(seed) == SEED_LENGTH + 2 and (nat := _nat_of(seed)) is not None:
        seed, nats = seed[:SEED_LENGTH], (nat,)
    return Query(
        results=_within(parameters.get("results"), 1, MAX_RESULTS),
        page=_within(parameters.get("page"), 1, MAX_PAGE),
        # The original ignores the gender when a seed is given.
        gender=gender if gender in {"male", "female"} and not seed else None,
        seed=seed or secrets.token_hex(SEED_LENGTH // 2),
        nats=nats,
        fields=_fields(parameters.get("inc"), parameters.get("exc")),
        with_info="noinfo" not in parameters,
        is_pretty=parameters.get("format", parameters.get("fmt")) in {"pretty", "prettyjson"},
    )


def _within(text: str | None, low: int, high: int) -> int:
    try:
        number = int(text or "")
    except ValueError:
        return low
    return number if low <= number <= high else low


def _nats(text: str | None) -> tuple[str, ...] | None:
    wanted = tuple(nat.upper() for nat in (text or "").split(",") if nat)
    # One unknown nationality and the original ignores them all.
    return wanted if wanted and all(nat in NATIONALITIES for nat in wanted) else None


def _nat_of(seed: str) -> str | None:
    try:
        return NATS[int(seed[SEED_LENGTH:], 16)]
    except (ValueError, IndexError):
        return None


def _fields(included: str | None, excluded: str | None) -> frozenset[str]:
    return (_names(included) or FIELDS) - _names(excluded)


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in (text or "").split(",") if name.strip())
