"""The AsyncAPI 3.0 document: made of the catalog and the models of the events."""

from typing import Any

from services.api.openapi.json_schemas import Json, JsonSchemas
from shared.events.catalog import FLOWS, STREAMS, Flow
from shared.events.outcome import OutcomeStatus

VERSION = "1.0.0"
JSON = "application/json"

INFO: Json = {
    "title": "Leads: events",
    "version": VERSION,
    "description": (
        "Events travel on Redis Streams. An entry's fields are the headers of a message, and the "
        "field `data` is its payload: JSON in UTF-8. Services read through consumer groups that "
        "have their names. Delivery is at least once, and the effect of an event is one."
    ),
    "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
}
SERVERS: Json = {
    "streams": {
        "host": "{host}:{port}",
        "protocol": "redis",
        "description": "Redis 7.2 or newer, or Valkey",
        "variables": {"host": {"default": "localhost"}, "port": {"default": "6379"}},
    }
}

REPLIES = "replies"
OUTCOME = "outcome"


def _text(description: str, **schema: Any) -> Json:
    return {"type": "string", "description": description, **schema}


# CloudEvents 1.0: its attributes first, then those of ours.
HEADERS: Json = {
    "id": _text("The same across retries, redelivery and replays", format="uuid"),
    "source": _text("Who published it", examples=["api"]),
    "type": _text("The event's type"),
    "subject": _text("What it is about: a lead's id, mostly"),
    "time": _text("When it was made, in UTC", format="date-time"),
    "specversion": {"const": "1.0"},
    "dataschema": _text("`urn:leads:{type}:{version}`"),
    "datacontenttype": {"const": JSON},
    "partitionkey": _text("What decides the order: a lead's key, or else the subject"),
    "correlationid": _text("The id of the HTTP request"),
    "traceparent": _text("W3C trace context"),
    "tracestate": _text("W3C trace context"),
    "tracelink": _text("The `traceparent` from before it was put back"),
    "replyto": _text("The stream in which the client waits; absent when none does"),
    "expires": _text("Until when the asker waits", format="date-time"),
    "attempt": _text("1, and one more with every retry", pattern="^[1-9][0-9]*$"),
    "onlygroup": _text("The one group that a retry or a replay is meant for"),
    "replayid": _text("The replay that put the entry back"),
    "withmodel": {
        "const": "true",
        "description": "On a replayed entry that may call the language model",
    },
}
REQUIRED = (
    *("id", "source", "type", "subject", "time", "specversion", "dataschema"),
    *("datacontenttype", "partitionkey", "correlationid", "attempt"),
)
REPLY_CHANNEL: Json = {
    "address": None,
    "description": "A stream of the asker's own, named by `replyto`",
    "messages": {OUTCOME: {"$ref": f"#/components/messages/{OUTCOME}"}},
}
REPLY_MESSAGE: Json = {
    "name": OUTCOME,
    "summary": "The outcome of an event. It only wakes the client: the truth is stored",
    "contentType": JSON,
    "headers": {
        "type": "object",
        "required": ["id", "status"],
        "properties": {
            "id": _text("The event's id", format="uuid"),
            "status": {"enum": [status.value for status in OutcomeStatus]},
        },
    },
    "payload": {
        "type": "object",
        "description": "The lead, or why there is none, in the field `body`",
    },
}


def asyncapi_document() -> Json:
    """Return the document as JSON values."""
    schemas = JsonSchemas()
    messages = {flow.event.type: _message(flow, schemas) for flow in FLOWS}
    channels = {_channel_name(stream): _channel(stream) for stream in STREAMS}
    envelope = {"type": "object", "required": list(REQUIRED), "properties": HEADERS}
    return {
        "asyncapi": "3.0.0",
        "info": INFO,
        "defaultContentType": JSON,
        "servers": SERVERS,
        "channels": {**channels, REPLIES: REPLY_CHANNEL},
        "operations": _operations(),
        "components": {
            "messages": {**messages, OUTCOME: REPLY_MESSAGE},
            "schemas": {"Envelope": envelope, **schemas.models},
        },
    }


def _channel_name(stream: str) -> str:
    return stream.partition(":")[2]


def _channel(stream: str) -> Json:
    types = [flow.event.type for flow in FLOWS if flow.stream == stream]
    return {
        "address": stream,
        "messages": {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in types},
    }


def _operations() -> Json:
    operations: Json = {}
    for flow in FLOWS:
        for producer in flow.producers:
            operations[f"{producer}-sends-{flow.event.type}"] = _operation(flow, "send")
        for group in flow.groups:
            operations[f"{group}-receives-{flow.event.type}"] = _operation(flow, "receive")
    return operations


def _operation(flow: Flow, action: str) -> Json:
    channel = f"#/channels/{_channel_name(flow.stream)}"
    operation: Json = {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{flow.event.type}"}],
    }
    # Without a consumer group there is no reply.
    if flow.groups:
        operation["reply"] = {
            "address": {"location": "$message.header#/replyto"},
            "channel": {"$ref": f"#/channels/{REPLIES}"},
        }
    return operation


def _message(flow: Flow, schemas: JsonSchemas) -> Json:
    event = flow.event
    own = {"type": {"const": event.type}, "dataschema": {"const": event.schema_uri()}}
    return {
        "name": event.type,
        "summary": _first_paragraph(event.__doc__ or ""),
        "contentType": JSON,
        "headers": {"allOf": [{"$ref": "#/components/schemas/Envelope"}, {"properties": own}]},
        "payload": schemas.of(event, mode="serialization"),
    }


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())
