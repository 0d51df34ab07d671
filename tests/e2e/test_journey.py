"""What a user does on the first day, from sign-up to a list of leads."""

import json
from typing import Any

from supabase_auth import AsyncGoTrueClient

from tests.e2e.conftest import SAMPLE_USERS
from tests.support.api_client import ACCOUNT, ApiClient
from tests.support.builders import lead_body
from tests.support.eventually import eventually
from tests.support.stack import Stack


async def test_from_a_created_lead_to_a_summary(client: ApiClient) -> None:
    body = lead_body()
    created = await client.post("/leads", json=body)
    lead = created.json
    assert created.status == 201
    assert lead.items() >= body.items()

    assert await client.read(lead["id"]) == lead
    assert await client.read(lead["externalId"]) == lead

    summarised = await client.post(f"/leads/{lead['externalId']}/summary")
    assert summarised.status == 200, summarised.body
    assert lead["lastName"] in summarised.json["summary"]
    assert summarised.json["nextAction"]
    assert await client.read(lead["id"]) == summarised.json
    assert summarised.json in await client.list_all()


async def test_the_source_gives_leads_field_by_field(client: ApiClient) -> None:
    users = json.loads(SAMPLE_USERS.read_text())["results"]

    async def synchronised() -> list[dict[str, Any]]:
        leads = [lead for lead in await client.list_all() if lead["source"] == "randomuser"]
        assert len(leads) == len(users) == 20
        return leads

    leads = {lead["externalId"]: lead for lead in await eventually(synchronised)}
    for user in users:
        lead = leads[user["login"]["uuid"]]
        assert lead.items() >= expected(user).items()
        assert await client.read(user["login"]["uuid"]) == lead


def expected(user: dict[str, Any]) -> dict[str, Any]:
    """Return a user of the source as a lead."""
    where = user["location"]
    return {
        "firstName": user["name"]["first"],
        "lastName": user["name"]["last"],
        "email": user["email"],
        "phone": user["phone"],
        "cell": user["cell"],
        "dob": user["dob"]["date"],
        "city": where["city"],
        "state": where["state"],
        "country": where["country"],
        "picture": user["picture"]["large"],
        "status": "new",
        "createdBy": None,
        "summary": None,
    }


async def test_a_session_of_supabases_own_library_is_a_session_here(
    stack: Stack, client: ApiClient
) -> None:
    """Web pages log in by it, and know nothing of this API's log-in."""
    library = AsyncGoTrueClient(
        url=f"{stack.environment['SUPABASE_URI']}/auth/v1",
        headers={"apikey": stack.environment["SUPABASE_KEY"]},
        auto_refresh_token=False,
        persist_session=False,
    )
    try:
        answer = await library.sign_in_with_password(
            {"email": ACCOUNT["email"], "password": ACCOUNT["password"]}
        )
        assert answer.session is not None
        assert (await client.with_token(answer.session.access_token).get("/leads")).status == 200
        # And the other way round: a log-in here can be kept alive by the library.
        here = await client.post("/authentication/login", json=ACCOUNT)
        fresh = await library.refresh_session(here.json["refresh_token"])
        assert fresh.session is not None
        assert (await client.with_token(fresh.session.access_token).get("/leads")).status == 200
    finally:
        await library.close()
