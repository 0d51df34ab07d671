"""`/operations`, described."""

from services.api.openapi.description import Answer, Description, Tag
from services.api.openapi.recurring import OPERATION_ID
from services.api.openapi.representations import Operation

READ = Description(
    id="readOperation",
    tag=Tag.OPERATIONS,
    summary="Ask what became of a request that was answered 202",
    parameters=(OPERATION_ID,),
    answers=(Answer.json(200, Operation, "How far it has come"),),
    problems=("operation-not-found", "unavailable"),
)
