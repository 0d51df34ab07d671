"""The measured works, each beside the simplest server that does the same."""

from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import orjson

from bench.backlog import worked_off
from bench.load import Load, Round
from bench.measurement import Bench, Measurement, Target
from bench.system import System, running_limit, running_system, stored_leads

MODEL_SECONDS = 0.05
ONE_CALLER = 1
CALLERS = 32
MANY_CALLERS = 256

BARE = "bare aiohttp"
FIRST_PAGE = "the first page"
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
    async with running_system() as system, running_limit("bare") as bare:
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
            yield Measurement(name, BARE, rounds, limit, budget=0.75)


async def creates(bench: Bench) -> AsyncIterator[Measurement]:
    """POST of a lead, answered when it is committed."""
    async with (
        running_system() as system,
        running_limit("bare") as bare,
        running_limit("insert", system.dsn) as insert,
    ):
        headers = {**system.headers, "Content-Type": "application/json"}
        new = Load(
            method="POST",
            paths=["/leads"],
            headers=headers,
            body=NEW_LEAD,
            status=201,
            holds="Lovelace",
            connections=MANY_CALLERS,
        )
        least, plain, rounds = await bench.measure(
            Target(bare, Load(paths=["/"], headers={}, holds="xxx", connections=MANY_CALLERS)),
            Target(insert, new),
            Target(system.url, new),
        )
        yield Measurement("POST /leads", BARE, rounds, least, budget=0.25)
        yield Measurement("POST /leads", "one INSERT a request", rounds, plain, budget=1.5)


async def pages(bench: Bench) -> AsyncIterator[Measurement]:
    """A page of a hundred leads out of many: the first beside one far down, and searches."""
    async with running_system() as system:
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
                (list(_searches(rows=bench.rows)), ONE_CALLER),
                (["/leads?limit=100"], ONE_CALLER),
            )
        )
        limits, rounds, found, alone_limits = await bench.measure(first, last, search, alone)
        many = f"of {bench.rows:,} leads"
        yield Measurement(
            f"GET /leads, the last page but one {many}", FIRST_PAGE, rounds, limits, 1 / 1.2
        )
        yield Measurement(f"GET /leads?q=, {many}, one caller", FIRST_PAGE, found, alone_limits)


async def summaries(bench: Bench) -> AsyncIterator[Measurement]:
    """POST of a summary, with a model that takes its time."""
    async with (
        running_limit("model", str(MODEL_SECONDS)) as model,
        running_system(GROQ_API_KEY="bench", GROQ_BASE_URL=f"{model}/v1") as system,
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
            limits, rounds = await bench.measure(Target(model, alone), Target(system.url, work))
            name = f"POST /leads/{{id}}/summary, {callers} callers"
            yield Measurement(name, "the model alone", rounds, limits, budget=budget)


async def backlog(bench: Bench) -> AsyncIterator[Measurement]:
    """New leads that wait in the stream, worked off by one syncer and by several."""
    alone: list[Round] = []
    for syncers in (1, 2, 4, 8):
        seconds = await worked_off(bench.backlog, syncers=syncers)
        rounds = [Round.of_all(bench.backlog, seconds=seconds)]
        alone = alone or rounds
        name = f"{bench.backlog:,} new leads that wait, {syncers} syncers"
        yield Measurement(name, "one syncer", rounds, alone)


async def _far_page(system: System, *, rows: int) -> str:
    """Return the path of the last page but one, found as a client finds it."""
    path = "/leads?limit=500"
    async with httpx.AsyncClient(base_url=system.url, headers=system.headers) as http:
        for _ in range(rows // 500 - 1):
            answer = (await http.get(path)).raise_for_status()
            path = answer.links["next"]["url"]
    return path.replace("limit=500", "limit=100")


def _searches(*, rows: int) -> Iterator[str]:
    """Yield the paths of searches that find one lead, some, all or none."""
    step = max(1, rows // 50)
    for number in range(1, rows, step):
        yield f"/leads?limit=100&q=ada.{number}%40example"
        yield f"/leads?limit=100&q=Lovelace%20{number}"
    yield "/leads?limit=100&q=london"
    yield "/leads?limit=100&q=nobody"


WORKS: dict[str, Callable[[Bench], AsyncIterator[Measurement]]] = {
    "reads": cached_reads,
    "creates": creates,
    "pages": pages,
    "summaries": summaries,
    "backlog": backlog,
}
