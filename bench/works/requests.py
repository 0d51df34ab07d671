"""What clients ask for, each beside the simplest server that does the same."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import orjson

from bench.load import Load
from bench.measurement import Bench, Measurement, Target
from bench.peer_processes import FASTAPI, PEERS, RunningPeer, running_peer
from bench.system import System, running_limit, running_system, stored_in, stored_leads

MODEL_SECONDS = 0.05
ONE_CALLER = 1
CALLERS = 32
MANY_CALLERS = 256

BARE = "bare aiohttp"
WAY = "the way alone"
FIRST_PAGE = "the first page"
# The schedule brings leads too.
CREATED = "(SELECT email FROM leads.lead WHERE source = 'manual') AS created"
# `{n}` is another number in every request.
NEW_LEAD = orjson.dumps(
    {
        "firstName": "Ada",
        "lastName": "Lovelace",
        "email": "ada.{n}@example.com",
        "phone": "+44 20 7946 0018",
        "city": "London",
        "country": "United Kingdom",
    }
).decode()


async def cached_reads(bench: Bench) -> AsyncIterator[Measurement]:
    """GET of one lead, from the cache and with the lead's version known."""
    async with _system(bench) as system, running_limit("bare") as bare:
        paths = [f"/leads/{lead_id}" for lead_id in await stored_leads(system, 100)]
        whole = Load(paths=paths, headers=system.headers, holds="Lovelace")
        known = Load(paths=paths, headers={**system.headers, "If-None-Match": '"1"'}, status=304)
        limit, *works = await bench.measure(
            Target(bare, Load(paths=["/"], headers={}, holds="xxx")),
            Target(system.url, whole),
            Target(system.url, known),
        )
        names = ("GET /leads/{id}, cached", "GET /leads/{id}, not modified")
        for name, rounds in zip(names, works, strict=True):
            yield Measurement(bench.named(name), BARE, rounds, limit, budget=0.75)


async def creates(bench: Bench) -> AsyncIterator[Measurement]:
    """POST of a lead, answered when it is committed."""
    async with contextlib.AsyncExitStack() as stack:
        system = await stack.enter_async_context(_system(bench))
        bare = await stack.enter_async_context(running_limit("bare"))
        insert = await stack.enter_async_context(running_limit("insert", system.dsn))
        way = await stack.enter_async_context(running_limit("way", system.dsn, system.redis_url))
        peers = [await stack.enter_async_context(peer) for peer in _peers(bench, system)]
        for callers in (64, MANY_CALLERS):
            new = new_leads(system, callers)
            least, plain, bare_way, rounds, *others = await bench.measure(
                Target(bare, Load(paths=["/"], headers={}, holds="xxx", connections=callers)),
                Target(insert, new, stored_in(system.dsn, "bench_lead")),
                Target(way, new, stored_in(system.dsn, "bench_way"), WAY),
                Target(system.url, new, stored_in(system.dsn, CREATED), "the API"),
                *(
                    Target(peer.url, new, stored_in(peer.dsn, "peer_lead"), peer.name)
                    for peer in peers
                ),
            )
            name = bench.named(f"POST /leads, {callers} callers")
            yield Measurement(name, BARE, rounds, least)
            yield Measurement(name, "one unchecked INSERT a request", rounds, plain, budget=0.8)
            yield Measurement(name, WAY, rounds, bare_way)
            for peer, limit in zip(peers, others, strict=True):
                yield Measurement(name, peer.name, rounds, limit, budget=peer.budget)


def new_leads(system: System, callers: int) -> Load:
    """Return what so many callers post, each one another lead."""
    return Load(
        method="POST",
        paths=["/leads"],
        headers={**system.headers, "Content-Type": "application/json"},
        body=NEW_LEAD,
        status=201,
        holds="Lovelace",
        connections=callers,
    )


def _peers(
    bench: Bench, system: System
) -> Iterator[contextlib.AbstractAsyncContextManager[RunningPeer]]:
    """Yield the peers to be run, each with as many processes of its API as ours has."""
    python, processes = bench.peers_python, bench.api_workers
    if python is None:
        return
    for peer in PEERS:
        yield running_peer(peer, system, python=python, processes=processes)
    # Without a worker it leaves a core to the others, where ours and theirs have one more process.
    more = replace(FASTAPI, name=f"{FASTAPI.name}, {processes + 1} processes", budget=None)
    yield running_peer(more, system, python=python, processes=processes + 1)


async def pages(bench: Bench) -> AsyncIterator[Measurement]:
    """A page of a hundred leads out of many: the first beside one far down, and searches."""
    async with _system(bench) as system, running_limit("page", system.dsn) as query:
        await stored_leads(system, bench.rows)
        far = await _far_page(system, rows=bench.rows)
        first, last, search, alone = (
            Target(
                system.url,
                Load(paths=paths, headers=system.headers, holds="[", connections=connections),
            )
            for paths, connections in (
                (["/leads?limit=100"], CALLERS),
                ([far], CALLERS),
                (list(searches(rows=bench.rows)), ONE_CALLER),
                (["/leads?limit=100"], ONE_CALLER),
            )
        )
        asked = Target(query, Load(paths=["/"], headers={}, holds="[", connections=CALLERS))
        limits, rounds, found, alone_limits, by_query = await bench.measure(
            first, last, search, alone, asked
        )
        many = f"of {bench.rows:,} leads"
        yield Measurement(
            bench.named(f"GET /leads, the first page {many}"),
            "the same query through asyncpg",
            limits,
            by_query,
            budget=0.7,
        )
        yield Measurement(
            f"GET /leads, the last page but one {many}", FIRST_PAGE, rounds, limits, 1 / 1.2
        )
        yield Measurement(f"GET /leads?q=, {many}, one caller", FIRST_PAGE, found, alone_limits)


async def summaries(bench: Bench) -> AsyncIterator[Measurement]:
    """POST of a summary, with a model that takes its time."""
    async with (
        running_limit("model", str(MODEL_SECONDS)) as model,
        _system(bench, GROQ_API_KEY="bench", GROQ_BASE_URL=f"{model}/v1") as system,
        running_limit("way", system.dsn, system.redis_url, model) as way,
    ):
        ids = await stored_leads(system, 2_000)
        for callers, budget in ((CALLERS, 0.85), (2 * CALLERS, None), (MANY_CALLERS, None)):
            work = Load(
                method="POST",
                paths=[f"/leads/{lead_id}/summary?regenerate=true" for lead_id in ids],
                headers=system.headers,
                holds="Ada Lovelace",
                connections=callers,
            )
            alone = Load(paths=["/"], headers={}, holds="choices", connections=callers)
            limits, bare_way, rounds = await bench.measure(
                Target(model, alone), Target(way, work), Target(system.url, work)
            )
            name = bench.named(f"POST /leads/{{id}}/summary, {callers} callers")
            yield Measurement(name, "the model alone", rounds, limits, budget=budget)
            yield Measurement(name, WAY, rounds, bare_way)


def _system(bench: Bench, **environment: str) -> contextlib.AbstractAsyncContextManager[System]:
    return running_system(API_WORKERS=str(bench.api_workers), **environment)


async def _far_page(system: System, *, rows: int) -> str:
    """Return the path of the last page but one, found as a client finds it."""
    path = "/leads?limit=500"
    async with httpx.AsyncClient(base_url=system.url, headers=system.headers) as http:
        for _ in range(rows // 500 - 1):
            answer = (await http.get(path)).raise_for_status()
            path = answer.links["next"]["url"]
    return path.replace("limit=500", "limit=100")


def searches(*, rows: int) -> Iterator[str]:
    """Yield the paths of searches that find one lead, some, all or none."""
    step = max(1, rows // 50)
    for number in range(1, rows, step):
        yield f"/leads?limit=100&q=ada.{number}%40example"
        yield f"/leads?limit=100&q=Lovelace%20{number}"
    yield "/leads?limit=100&q=london"
    yield "/leads?limit=100&q=nobody"
