"""`/leads/import`: a file of leads is kept as it comes, and written by the syncer afterwards."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Annotated, ClassVar
from uuid import UUID

from aiohttp import web
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from services.api.exchange import Exchange
from services.api.handlers.operations import ACCEPTED, accepted_response
from services.api.server.routing import Call
from services.api.settings import HttpSettings
from services.api.web.body import read_chunks
from services.api.web.endpoint import Body, Endpoint, Tag
from services.api.web.headers import IDEMPOTENCY_KEY, IdempotencyKeys, event_id_of
from services.api.web.problems import Problem, validation_problem
from services.api.web.query import Flag, Query
from shared.domain.errors import PermanentError
from shared.domain.lead_file import FileFormat, ImportMode
from shared.events.data import ImportRequested, row_event_id
from shared.events.envelope import Event
from shared.lead_files import (
    FIELDS,
    SEPARATOR,
    HeaderError,
    Layout,
    check_beginning,
    mapped,
)
from shared.spreadsheets import encoding_named
from shared.streams.imports import ImportFiles, Upload

CSV = "text/csv"
NDJSON = "application/x-ndjson"
FORMATS = {CSV: FileFormat.CSV, NDJSON: FileFormat.NDJSON}
CHUNK = 256 * 1024
# Files that this process receives, and imports that have not ended: what they take up is bounded.
MOST_UPLOADS = 4
MOST_WAITING = 16
# The ids of events with an Idempotency-Key are made of this too: it must not change.
IMPORT = "POST /leads/import"

MOST_MAPPED = 100
LONGEST_TITLE = 200


def _check_mapping(value: str) -> str:
    try:
        mapped(value)
    except ValueError as error:
        raise PydanticCustomError("mapping", "{reason}", {"reason": str(error)}) from error
    return value


Mapping = Annotated[
    str,
    Field(
        max_length=LONGEST_TITLE,
        json_schema_extra={"pattern": rf"\S.*{SEPARATOR}({'|'.join(FIELDS.values())})?$"},
    ),
    AfterValidator(_check_mapping),
]


class LeadImportQuery(Query):
    """What is to become of a file's rows."""

    repeatable: ClassVar[frozenset[str]] = frozenset({"map"})

    mode: Annotated[
        ImportMode,
        Field(
            description="`create` leaves leads that are known alone; `upsert` changes those with "
            "a row's `externalId`"
        ),
    ] = ImportMode.CREATE
    dry_run: Annotated[Flag, Field(description="Only report what the import would do")] = False
    map: Annotated[
        tuple[Mapping, ...],
        Field(
            max_length=MOST_MAPPED,
            default_factory=tuple,
            description="A column of a CSV file whose title is no field's, as `title:field`, or "
            "`title:` to pass the column over. May be given for each column",
        ),
    ]

    def mapping(self) -> dict[str, str]:
        """Return the fields of columns by their titles."""
        return dict(map(mapped, self.map))

    def layout(self) -> Layout:
        """Return the same in the terms of files' readers."""
        return Layout(mapping=self.mapping(), mode=self.mode)


@dataclass(frozen=True, slots=True)
class _Received:
    sha256: str
    size: int


EXPLANATION = (
    "Of up to 64 MiB unless the deployment says otherwise, sent as it is "
    "read. UTF-8, UTF-16 or UTF-32, or what `charset` in `Content-Type` says "
    "(`text/csv; charset=windows-1252`). CSV begins with the columns' titles, in any case and "
    "spacing (`First Name`); its cells are separated by commas, semicolons, tabs or bars, or "
    "as a first line `sep=;` says. Blank cells are no values, blank rows are passed over, "
    '`="+4479..."` is a text. NDJSON has a lead to a line. Unknown columns are refused before '
    "anything is kept; columns that only an export has, such as `status`, are passed over, and "
    "those with values named in the operation's `ignoredColumns`."
    "\n\n"
    "Rows are written one after the other, after other requests: the operation shows how far "
    "that has come and, at the end, the exact result. A row that cannot be "
    "written or read fails alone, and is named in the operation's error file. Rows are counted "
    "from 1, the header left out; a quote that is never closed costs its own line. An `upsert` "
    "needs an `externalId` in every row, or else the lead's `id`, as exports have it. It "
    "leaves alone what a row does not say and, by `externalId`, what a person has edited."
    "\n\n"
    "A dry run counts what would be `created`, `updated` and so on, by the leads that there "
    "are; of rows that are each other's duplicates it does not know."
)


class LeadImportHandlers:
    """Takes files in. The syncer writes what is in them."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        keys: IdempotencyKeys,
        files: ImportFiles,
        settings: HttpSettings,
    ) -> None:
        self._exchange = exchange
        self._keys = keys
        self._files = files
        self._settings = settings
        self._under_way = 0

    @Endpoint(
        "POST",
        "/leads/import",
        id="importLeads",
        tag=Tag.LEADS,
        summary="Import a file of leads",
        explanation=EXPLANATION,
        parameters=(IDEMPOTENCY_KEY,),
        query=LeadImportQuery,
        body=Body(
            content={CSV: str, NDJSON: str},
            examples={
                CSV: "First Name,Last Name,Email,City\nAda,Lovelace,ada@example.com,London\n",
                NDJSON: '{"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com"}'
                "\n",
            },
        ),
        answers=(ACCEPTED,),
        problems=("rate-limited", "key-reused", "unavailable", "timeout"),
        is_bounded=True,
    )
    async def begin(self, call: Call) -> web.StreamResponse:
        """Answer 202 once the whole file is kept."""
        query = call.parse_query(LeadImportQuery)
        _check_charset(call.request)
        key = event_id_of(call.request, user=call.user, operation=IMPORT)
        # Rows have ids of their own that differ from the import's in what is its row 0.
        import_id = row_event_id(key, 0)
        with self._turn():
            if await self._files.waiting() >= MOST_WAITING:
                raise _too_many("Too many imports wait for their turn")
            async with self._files.uploading(import_id) as upload:
                received = await self._receive(call.request, upload, query)
                event = _requested(call, import_id, query, received)
                await self._keys.check_key(call.request, import_id, event.data.intent)
                await upload.keep()
        await self._exchange.publish(event)
        await self._files.keep(import_id)
        return accepted_response(import_id)

    async def _receive(
        self, request: web.BaseRequest, upload: Upload, query: LeadImportQuery
    ) -> _Received:
        digest, size = hashlib.sha256(), 0
        async with contextlib.aclosing(self._chunks(request)) as chunks:
            async for chunk in chunks:
                if not size:
                    _check_beginning(chunk, request, query)
                digest.update(chunk)
                size += len(chunk)
                await upload.append(chunk)
        if not size:
            raise _empty()
        return _Received(digest.hexdigest(), size)

    def _chunks(self, request: web.BaseRequest) -> AsyncGenerator[bytes]:
        return read_chunks(
            request,
            size=CHUNK,
            within=self._settings.body_timeout,
            limit=self._settings.import_max_bytes,
            media_types=FORMATS,
        )

    @contextlib.contextmanager
    def _turn(self) -> Generator[None]:
        if self._under_way >= MOST_UPLOADS:
            raise _too_many(f"Only {MOST_UPLOADS} files can be sent at a time")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _check_charset(request: web.BaseRequest) -> None:
    if request.charset:
        try:
            encoding_named(request.charset)
        except ValueError as error:
            raise Problem("unsupported-media-type", f"charset: {error}") from error


def _check_beginning(chunk: bytes, request: web.BaseRequest, query: LeadImportQuery) -> None:
    """Raise `Problem` 400 for a file whose first line shows that its rows cannot be read."""
    if not chunk.strip(b"\xef\xbb\xbf \t\r\n"):
        raise _empty()
    file_format = FORMATS[request.content_type]
    if file_format is FileFormat.NDJSON and query.map:
        raise validation_problem({"map": "Is for columns of CSV"})
    try:
        check_beginning(chunk, file_format, query.layout(), charset=request.charset)
    except HeaderError as error:
        raise validation_problem(error.columns) from error
    except PermanentError as error:
        raise validation_problem({"body": str(error)}) from error


def _requested(call: Call, import_id: UUID, query: LeadImportQuery, received: _Received) -> Event:
    return call.event(
        ImportRequested(
            format=FORMATS[call.request.content_type],
            mode=query.mode,
            mapping=query.mapping(),
            dry_run=query.dry_run,
            sha256=received.sha256,
            size=received.size,
            requested_by=call.user.id,
            charset=call.request.charset,
        ),
        id=import_id,
        subject="import",
    )


def _empty() -> Problem:
    return validation_problem({"body": "Is empty"})


def _too_many(detail: str) -> Problem:
    return Problem("rate-limited", detail, headers={"Retry-After": "10"})
