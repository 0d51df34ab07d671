"""Whatever PostgreSQL answers, no request is a 500, no process ends, nothing accepted is lost."""

from functools import partial

import pytest
from yarl import URL

from tests.support.auth_server import AuthServer
from tests.support.fault_injection import PostgresFaults
from tests.support.unforeseen import port_of, system_behind

pytestmark = pytest.mark.long

# Of every class of https://www.postgresql.org/docs/current/errcodes-appendix.html at least one, but
# for those that say that a statement or a value of ours is wrong; and one of no class.
SQLSTATES = (
    *("01000", "02000", "03000", "08000", "08003", "08004", "08006", "08P01", "09000", "0A000"),
    *("0B000", "0F001", "0L000", "0P000", "0Z002", "10608", "20000", "24000", "25001", "25006"),
    *("25P02", "25P03", "25P04", "26000", "27000", "28000", "28P01", "2B000", "2BP01", "2D000"),
    *("2F000", "34000", "38000", "39000", "3B000", "3D000", "3F000", "40001", "40P01", "42501"),
    *("42703", "42704", "42883", "42939", "42P01", "42P05", "53000", "53100", "53200", "53300"),
    *("53400", "55000", "55006", "55P03", "57000", "57014", "57P01", "57P02", "57P03", "57P04"),
    *("57P05", "58000", "58030", "58P01", "72000", "F0000", "HV000", "P0001", "P0002", "P0004"),
    *("XX000", "XX001", "XX002", "ZZZZZ"),
)
# What is ours in a session is the network's before there is one.
OURS = ("21000", "22001", "22P02", "23505", "42601", "42804", "44000", "54000")
CLASSES = {state[:2]: state for state in (*SQLSTATES, *OURS)}
EVERY = [
    *((state, False) for state in SQLSTATES),
    *((state, True) for state in CLASSES.values()),
]


async def test_no_answer_of_postgres_is_a_500_or_the_end_of_a_process(
    auth: AuthServer, postgres_dsn: str, redis_url: str
) -> None:
    async with PostgresFaults(port_of(postgres_dsn)) as faults:
        behind = str(URL(postgres_dsn).with_port(faults.port))
        cases = [
            (
                f"{state} {'at connect' if at_connect else 'in a session'}",
                partial(faults.inject, state, at_connect=at_connect),
            )
            for state, at_connect in EVERY
        ]
        async with system_behind(auth, postgres_dsn=behind, redis_url=redis_url) as traffic:
            await traffic.try_all(faults, cases)
