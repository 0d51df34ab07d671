"""`docs/rest.md`: the endpoints as tables for people, made of what handlers declare."""

from collections.abc import Iterator, Sequence

from services.api.openapi.document import TAGS
from services.api.web.endpoint import Access, Endpoint
from services.api.web.problems import PROBLEMS

INTRODUCTION = """\
# The REST API

`make docs` writes this page from the endpoints that `services/api/handlers` declares.
[openapi.json](openapi.json) says all of it, with every field and example; a running API shows that
as a page at `/docs`. [leads.http](leads.http) has requests to send one after another.

## What endpoints have in common

- **Ids.** The `{id}` of a lead is its `id` or its `externalId`.
- **Access.** Endpoints for a *user* need the access token of a log-in, as `Authorization: Bearer
  <token>`; those for an *operator* need the operators' key, as `X-API-Key: <key>`. Without it the
  answer is 401. Endpoints for *anyone* need neither.
- **Problems.** Every refusal and failure is `application/problem+json` (RFC 9457) with a stable
  `code`; the last table below lists the codes. A 400 names every wrong or unknown field and
  parameter in `errors`. Only health and documents ignore unknown parameters, unless
  `UNKNOWN_FIELDS=ignore` has all but operators' endpoints ignore unknown fields and parameters.
- **Limits.** Past a limit the answer is 429 with `Retry-After`. `RateLimit` says how many calls are
  left.
- **Idempotency.** With an `Idempotency-Key` a request may be sent again: the same key with the same
  body has one effect and one answer. With another body it is refused.
- **Waiting.** A write is answered once it is stored. When that takes too long, or with
  `Prefer: respond-async`, the answer is 202, and `Location` leads to the operation.
- **Versions.** A lead has its version as `ETag`. Reads honour `If-None-Match`, changes and
  deletions `If-Match`.
- **Pages.** A list is an array, and its `Link` header leads to the next page, until the last. A
  page has 100 rows, or as many as `limit` says (500 at most); of leads, `LIST_DEFAULT_LIMIT`.

Any request may also be answered 400, 429, 431, 500 or 503, and one with a body 408, 413, 415 or
417. The tables name the problems that are an endpoint's own.
"""
ACCESS = {Access.PUBLIC: "anyone", Access.USER: "user", Access.OPERATOR: "operator"}


def rest_document(endpoints: Sequence[Endpoint]) -> str:
    """Return the page as Markdown."""
    chapters = [
        "\n".join([f"## {tag}", "", f"{text}.", "", *_table(chapter)])
        for tag, text in TAGS.items()
        if (chapter := [one for one in endpoints if one.tag is tag and not one.is_deprecated])
    ]
    return "\n".join([INTRODUCTION, *(f"{one}\n" for one in chapters), *_problems()]) + "\n"


def _table(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    yield "| | | what it does | answers | problems | access |"
    yield "|---|---|---|---|---|---|"
    for endpoint in endpoints:
        paths = ", ".join(f"`{path}`" for path in (endpoint.path, *endpoint.aliases))
        answers = "; ".join(
            # What follows a colon is said once for all, in the introduction.
            f"{one.status} {one.description.partition(':')[0]}"
            for one in endpoint.answers
        )
        statuses = sorted({PROBLEMS[code][0] for code in endpoint.problems})
        problems = ", ".join(map(str, statuses))
        yield (
            f"| `{endpoint.method}` | {paths} | {endpoint.summary} | {answers} | {problems} "
            f"| {ACCESS[endpoint.access]} |"
        )


def _problems() -> Iterator[str]:
    yield "## Problems"
    yield ""
    yield "| code | status | |"
    yield "|---|---|---|"
    for code, (status, title) in PROBLEMS.items():
        yield f"| `{code}` | {status} | {title} |"
