"""Imports, described."""

from services.api.handlers.lead_import import LeadImportQuery
from services.api.openapi.description import Body, Description, Tag
from services.api.openapi.recurring import ACCEPTED, IDEMPOTENCY_KEY

CSV = "text/csv"
NDJSON = "application/x-ndjson"

IMPORT = Description(
    id="importLeads",
    tag=Tag.LEADS,
    summary="Import a file of leads",
    explanation="UTF-8, of up to 64 MiB unless the deployment says otherwise, sent as it is read. "
    "CSV begins with the columns' titles, in any case and spacing (`First Name`); its cells are "
    "separated by commas, semicolons or tabs. NDJSON has a lead to a line. Columns that only an "
    "export has are passed over, unknown ones refused before anything is kept.\n\n"
    "Rows are written one after the other, behind other requests: the operation tells how far "
    "that has come and, at the end, exactly what became of how many. A row that cannot be written "
    "fails alone, and is told in the operation's error file. Rows are counted from 1, the header "
    "left out. An `upsert` needs an `externalId` in every row, leaves alone what a row does not "
    "say, and what a person has edited.\n\n"
    "A dry run counts what would be `created`, `updated` and so on, by the leads that there are; "
    "of rows that are each other's duplicates it does not know.",
    parameters=(IDEMPOTENCY_KEY,),
    query=LeadImportQuery,
    body=Body(
        content={CSV: str, NDJSON: str},
        examples={
            CSV: "First Name,Last Name,Email,City\nAda,Lovelace,ada@example.com,London\n",
            NDJSON: '{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com"}\n',
        },
    ),
    answers=(ACCEPTED,),
    problems=("rate-limited", "key-reused", "unavailable", "timeout"),
)
