"""`/operations`, described."""

from services.api.openapi.description import Answer, Description, Tag
from services.api.openapi.recurring import OPERATION_ID
from services.api.openapi.representations import Operation

READ = Description(
    id="readOperation",
    tag=Tag.OPERATIONS,
    summary="Ask what became of a request that was answered 202",
    explanation="Of an import, `progress` tells what became of how many rows so far. It is exact "
    "at every moment: `rows` is the sum of the others.",
    parameters=(OPERATION_ID,),
    answers=(Answer.json(200, Operation, "How far it has come"),),
    problems=("operation-not-found", "unavailable"),
)
ERRORS = Description(
    id="listImportErrors",
    tag=Tag.OPERATIONS,
    summary="List the rows that an import could not write",
    explanation='A line for each, in their order: `{"row": 17, "errors": {"email": "Email must be '
    'a valid email address"}}`. Of a duplicate also the `existingLeadId`. What the rows say is '
    "not repeated. The file grows while the import goes on, and is kept for seven days.",
    parameters=(OPERATION_ID,),
    answers=(
        Answer(
            status=200,
            description="The rows and their errors",
            content={"application/x-ndjson": str},
        ),
    ),
    problems=("operation-not-found", "errors-not-found", "unavailable"),
)
