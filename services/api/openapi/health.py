"""`/health`, described."""

from services.api.openapi.description import Answer, Description, Tag
from services.api.openapi.representations import Alive, Readiness

ALIVE = Description(
    id="isAlive",
    tag=Tag.HEALTH,
    summary="Whether the process lives",
    answers=(Answer.json(200, Alive, "It does"),),
)
READY = Description(
    id="isReady",
    tag=Tag.HEALTH,
    summary="Whether the API can do its work",
    answers=(
        Answer.json(200, Readiness, "Everything that it needs is there"),
        Answer.json(503, Readiness, "Something that it needs is not there"),
    ),
)
