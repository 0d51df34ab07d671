"""Uses the API by the client that openapi-python-client makes of its document, to the deletion."""

import os
from http import HTTPStatus
from uuid import UUID

from leads_client import AuthenticatedClient, Client
from leads_client.api.authentication import log_in, sign_up
from leads_client.api.leads import (
    create_lead,
    delete_lead,
    list_leads,
    read_lead,
    update_lead,
    write_leads,
)
from leads_client.api.summaries import summarise_lead
from leads_client.models import (
    BatchResults,
    Credentials,
    DuplicateLeadProblem,
    Lead,
    LeadBatch,
    LeadInput,
    LeadPatch,
    LeadStatus,
    NewAccount,
    Session,
)

URL = os.environ["API_URL"]
EMAIL, PASSWORD = "python@example.com", "correct horse battery"


def signed_in() -> AuthenticatedClient:
    anyone = Client(base_url=URL)
    account = NewAccount(email=EMAIL, password=PASSWORD)
    assert sign_up.sync_detailed(client=anyone, body=account).status_code == HTTPStatus.CREATED
    session = log_in.sync(client=anyone, body=Credentials(email=EMAIL, password=PASSWORD))
    assert isinstance(session, Session), session
    return AuthenticatedClient(base_url=URL, token=session.access_token)


def create(client: AuthenticatedClient, given: LeadInput) -> Lead:
    lead = create_lead.sync(client=client, body=given)
    assert isinstance(lead, Lead), lead
    again = create_lead.sync(client=client, body=given)
    assert isinstance(again, DuplicateLeadProblem), again
    assert again.lead_id == lead.id
    batch = write_leads.sync(client=client, body=LeadBatch(leads=[given]))
    assert isinstance(batch, BatchResults), batch
    assert [row.status for row in batch.results] == [HTTPStatus.CONFLICT]
    return lead


def change(client: AuthenticatedClient, lead_id: UUID) -> None:
    patch = LeadPatch(city="Paris", state=None, status=LeadStatus.CONTACTED)
    changed = update_lead.sync(lead_id, client=client, body=patch, if_match='"1"')
    assert isinstance(changed, Lead), changed
    assert (changed.city, changed.state, changed.version) == ("Paris", None, 2)
    summarised = summarise_lead.sync(lead_id, client=client)
    assert isinstance(summarised, Lead), summarised
    assert summarised.summary


def main() -> None:
    client = signed_in()
    given = LeadInput(first_name="Ada", last_name="Lovelace", email="ada+python@example.com")
    lead = create(client, given)
    assert list_leads.sync(client=client, email=given.email, limit=10) == [lead]
    change(client, lead.id)
    deleted = delete_lead.sync_detailed(lead.id, client=client)
    assert deleted.status_code == HTTPStatus.NO_CONTENT
    gone = read_lead.sync_detailed(lead.id, client=client)
    assert gone.status_code == HTTPStatus.NOT_FOUND
    print("Python: a client by openapi-python-client has done everything")  # noqa: T201


main()
