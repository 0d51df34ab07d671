"""GET `/leads/export`: any number of leads in one file."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Mapping

from aiohttp import web

from services.api.lead_queries import LeadExportQuery
from services.api.problems import Problem
from services.api.query_parameters import parse_query
from services.api.routing import Call
from services.api.streaming import streamed
from shared.domain.lead_file import FileFormat
from shared.events.envelope import now
from shared.lead_files.writing import csv_header, csv_line
from shared.storage.lead_export import LeadExport
from shared.storage.lead_filters import LeadFilters

# Each holds a connection to PostgreSQL for as long as its client takes to read it.
MOST_AT_A_TIME = 2
# Rows to a chunk: so few that other requests do not wait for one to be written as CSV.
CHUNK = 250

CONTENT_TYPES = {
    FileFormat.CSV: "text/csv; charset=utf-8; header=present",
    FileFormat.NDJSON: "application/x-ndjson",
}


class LeadExportHandlers:
    """Exports leads, oldest first, as they were at one moment."""

    def __init__(self, leads: LeadExport) -> None:
        self._leads = leads
        self._under_way = 0

    async def export(self, call: Call) -> web.StreamResponse:
        """GET /leads/export."""
        query = parse_query(LeadExportQuery, call.request.query)
        name = f"leads-{now():%Y-%m-%d}.{query.format}"
        return await streamed(
            self._chunks(query.filters(), query.format),
            content_type=CONTENT_TYPES[query.format],
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
            },
        )

    async def _chunks(self, filters: LeadFilters, file_format: FileFormat) -> AsyncGenerator[bytes]:
        beginning, line = _FORMS[file_format]
        with self._turn():
            async with contextlib.aclosing(self._leads.batches(filters, size=CHUNK)) as batches:
                async for batch in batches:
                    yield beginning + b"".join(map(line, batch))
                    beginning = b""
                yield beginning  # of no leads at all

    @contextlib.contextmanager
    def _turn(self) -> Generator[None]:
        if self._under_way >= MOST_AT_A_TIME:
            raise Problem(
                "rate-limited",
                f"Only {MOST_AT_A_TIME} exports can be under way at a time",
                headers={"Retry-After": "10"},
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def _csv_line(document: bytes) -> bytes:
    return csv_line(document).encode()


def _ndjson_line(document: bytes) -> bytes:
    return document + b"\n"


# What a file begins with, and how a lead is written.
_FORMS: Mapping[FileFormat, tuple[bytes, Callable[[bytes], bytes]]] = {
    FileFormat.CSV: (csv_header().encode(), _csv_line),
    FileFormat.NDJSON: (b"", _ndjson_line),
}
