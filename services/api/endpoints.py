"""Every operation of the API: where it is, what answers it, who may call it, what it promises."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from services.api.context import Administration, ApiContext
from services.api.openapi import (
    accounts,
    admin,
    changes,
    documents,
    health,
    imports,
    lead_writes,
    leads,
    operations,
    summaries,
)
from services.api.openapi.description import Description
from services.api.server.routing import Access, Handler, Route


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation. `handler` finds what answers it in the context of a running API.

    One that `is_lenient` ignores parameters of its address that it does not know.
    """

    method: str
    path: str
    handler: Callable[[ApiContext], Handler]
    description: Description
    access: Access = Access.USER
    is_bounded: bool = False
    is_limited: bool = True
    is_lenient: bool = False

    @classmethod
    def open(
        cls, path: str, handler: Callable[[ApiContext], Handler], description: Description
    ) -> Self:
        """Return a GET that anybody may call, as often as they like.

        Probes and browsers add parameters of their own, to get past caches.
        """
        return cls(
            "GET", path, handler, description, Access.PUBLIC, is_limited=False, is_lenient=True
        )

    @classmethod
    def operators(
        cls,
        method: str,
        path: str,
        handler: Callable[[Administration], Handler],
        description: Description,
    ) -> Self:
        """Return an operation for operators."""
        return cls(method, path, lambda api: handler(api.admin), description, Access.OPERATOR)


OPERATORS_ENDPOINTS = (
    Endpoint.operators("GET", "/admin/streams", lambda op: op.streams.list, admin.STREAMS),
    Endpoint.operators("GET", "/admin/dead-letters", lambda op: op.dead_letters.list, admin.LIST),
    Endpoint.operators(
        "DELETE",
        "/admin/dead-letters",
        lambda op: op.dead_letters.discard_many,
        admin.DISCARD_MANY,
    ),
    Endpoint.operators(
        "GET", "/admin/dead-letters/counts", lambda op: op.dead_letters.count, admin.COUNT
    ),
    Endpoint.operators(
        "POST", "/admin/dead-letters/retry", lambda op: op.dead_letters.retry_many, admin.RETRY_MANY
    ),
    Endpoint.operators(
        "GET", "/admin/dead-letters/{id}", lambda op: op.dead_letters.read, admin.READ
    ),
    Endpoint.operators(
        "DELETE", "/admin/dead-letters/{id}", lambda op: op.dead_letters.discard, admin.DISCARD
    ),
    Endpoint.operators(
        "POST", "/admin/dead-letters/{id}/retry", lambda op: op.dead_letters.retry, admin.RETRY
    ),
    Endpoint.operators("GET", "/admin/replays", lambda op: op.replays.list, admin.LIST_REPLAYS),
    Endpoint.operators("POST", "/admin/replays", lambda op: op.replays.order, admin.ORDER_REPLAY),
    Endpoint.operators("GET", "/admin/replays/{id}", lambda op: op.replays.read, admin.READ_REPLAY),
    Endpoint.operators(
        "POST",
        "/admin/replays/{id}/resume",
        lambda op: op.replays.resume,
        admin.RESUME_REPLAY,
    ),
    Endpoint.operators("POST", "/admin/sync", lambda op: op.syncs.request, admin.SYNC),
    Endpoint.operators("GET", "/admin/sync/{id}", lambda op: op.syncs.read, admin.READ_SYNC),
)
ENDPOINTS = (
    Endpoint("GET", "/leads/{id}", lambda api: api.leads.read, leads.READ, is_bounded=True),
    Endpoint("GET", "/leads", lambda api: api.lists.list, leads.LIST),
    Endpoint("GET", "/leads/export", lambda api: api.exports.export, leads.EXPORT),
    Endpoint("POST", "/leads", lambda api: api.leads.create, leads.CREATE),
    Endpoint("POST", "/lead", lambda api: api.leads.create, leads.CREATE.alias("createLeadAlias")),
    Endpoint("PATCH", "/leads/{id}", lambda api: api.lead_changes.update, lead_writes.UPDATE),
    Endpoint("DELETE", "/leads/{id}", lambda api: api.lead_changes.delete, lead_writes.DELETE),
    Endpoint(
        "PUT",
        "/leads/by-external-id/{externalId}",
        lambda api: api.lead_changes.upsert,
        lead_writes.UPSERT,
    ),
    Endpoint("POST", "/leads/batch", lambda api: api.lead_batches.write, lead_writes.BATCH),
    Endpoint(
        "POST",
        "/leads/import",
        lambda api: api.lead_imports.begin,
        imports.IMPORT,
        is_bounded=True,
    ),
    Endpoint("POST", "/leads/{id}/summary", lambda api: api.summaries.request, summaries.REQUEST),
    Endpoint(
        "GET", "/leads/{id}/summaries", lambda api: api.histories.list_summaries, summaries.LIST
    ),
    Endpoint("GET", "/leads/{id}/history", lambda api: api.histories.list_events, leads.HISTORY),
    Endpoint("GET", "/changes", lambda api: api.changes.follow, changes.FOLLOW),
    Endpoint("GET", "/operations/{id}", lambda api: api.operations.read, operations.READ),
    Endpoint(
        "GET", "/operations/{id}/errors", lambda api: api.operations.errors, operations.ERRORS
    ),
    Endpoint(
        "POST",
        "/authentication/signup",
        lambda api: api.accounts.sign_up,
        accounts.SIGN_UP,
        Access.PUBLIC,
    ),
    Endpoint(
        "POST",
        "/authentication/login",
        lambda api: api.accounts.log_in,
        accounts.LOG_IN,
        Access.PUBLIC,
    ),
    Endpoint(
        "POST",
        "/authentication/refresh",
        lambda api: api.accounts.refresh,
        accounts.REFRESH,
        Access.PUBLIC,
    ),
    Endpoint("POST", "/authentication/logout", lambda api: api.accounts.log_out, accounts.LOG_OUT),
    Endpoint("GET", "/authentication/me", lambda api: api.accounts.me, accounts.ME),
    Endpoint.open("/health", lambda api: api.health.alive, health.ALIVE),
    Endpoint.open("/health/ready", lambda api: api.health.ready, health.READY),
    Endpoint.open("/openapi.json", lambda api: api.documents.openapi, documents.OPENAPI),
    Endpoint.open("/asyncapi.json", lambda api: api.documents.asyncapi, documents.ASYNCAPI),
    Endpoint.open("/docs", lambda api: api.documents.page, documents.PAGE),
    Endpoint.open("/docs/{name}", lambda api: api.documents.asset, documents.ASSET),
    *OPERATORS_ENDPOINTS,
)


def routes(context: ApiContext) -> Sequence[Route]:
    """Return the routes that a running API answers."""
    return [
        Route(
            endpoint.method,
            endpoint.path,
            endpoint.handler(context),
            endpoint.access,
            endpoint.is_bounded,
            endpoint.is_limited,
            None if endpoint.is_lenient else endpoint.description.known_parameters,
        )
        for endpoint in ENDPOINTS
    ]
