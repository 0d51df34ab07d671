"""Requests that cannot be answered: each with a problem, none with a 5xx."""

import gzip

import httpx
import orjson
import pytest

from tests.support.builders import lead_body
from tests.support.raw_http import send_raw

JSON = {"Content-Type": "application/json"}
HOST = b"Host: localhost\r\n"


def assert_problem(response: httpx.Response, *, status: int, code: str) -> None:
    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:leads:problem:{code}"
    assert problem["error"] == problem["detail"] != ""
    assert problem["title"]
    assert problem["instance"] == response.url.raw_path.decode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed-json"),
        (b"nonsense", 400, "malformed-json"),
        (b"[]", 400, "malformed-json"),
        (b"null", 400, "malformed-json"),
        (b'{"firstName": "Ada"', 400, "malformed-json"),
        (b'{"firstName": "Ada", "firstName": "Ada"}', 400, "malformed-json"),
        (b'{"firstName": NaN}', 400, "malformed-json"),
        (b'{"firstName": "\xff"}', 400, "malformed-json"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, 400, "malformed-json"),
        (b'{"firstName": "A\\u0000da"}', 400, "validation-failed"),
        (b'{"firstName": "\\ud800"}', 400, "validation-failed"),
        (b'{"\\ud800": 1}', 400, "validation-failed"),
        (b'{"firstName": 1e400}', 400, "validation-failed"),
        (b'{"firstName": {"a": []}}', 400, "validation-failed"),
        (b'{"' + b"x" * 60_000 + b'": 1}', 400, "validation-failed"),
        (b"{" + b",".join(b'"k%d":1' % n for n in range(5000)) + b"}", 400, "validation-failed"),
        (b" " * 65_537, 413, "body-too-large"),
        (orjson.dumps({"firstName": "x" * 200_000}), 413, "body-too-large"),
    ],
)
async def test_a_bad_body_is_refused(
    body: bytes, status: int, code: str, aloof_api: httpx.AsyncClient
) -> None:
    response = await aloof_api.post("/leads", content=body, headers=JSON)
    assert_problem(response, status=status, code=code)
    assert len(response.content) < 20_000


@pytest.mark.parametrize(
    "path",
    [
        "/admin%2Fstreams",
        "/admin%2fdead-letters",
        "/leads%2Fexport",
        "/leads/a%2Fsummary",
        "%2Fleads",
    ],
)
async def test_an_encoded_slash_divides_no_path(path: str, aloof_api: httpx.AsyncClient) -> None:
    """A proxy that closes `/admin/` knows no other spelling of it."""
    answer = await send_raw(aloof_api, b"GET %b HTTP/1.1\r\n" % path.encode() + HOST + b"\r\n")
    if path == "/leads/a%2Fsummary":  # the id of no lead, for users alone
        assert (answer.status, answer.code) == (401, "unauthenticated")
    else:
        assert answer.status in {400, 404}


async def test_a_body_that_hides_its_length_is_cut_off(aloof_api: httpx.AsyncClient) -> None:
    async def chunks() -> object:
        for _ in range(20):
            yield b" " * 10_000

    response = await aloof_api.post("/leads", content=chunks(), headers=JSON)  # type: ignore[arg-type]
    assert_problem(response, status=413, code="body-too-large")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json-patch+json"},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "identity"},
    ],
)
async def test_a_body_must_be_plain_json(
    headers: dict[str, str], aloof_api: httpx.AsyncClient
) -> None:
    body = orjson.dumps(lead_body())
    response = await aloof_api.post("/leads", content=body, headers=headers)
    assert_problem(response, status=415, code="unsupported-media-type")


async def test_a_small_body_cannot_become_a_large_one(aloof_api: httpx.AsyncClient) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    response = await aloof_api.post(
        "/leads", content=bomb, headers={**JSON, "Content-Encoding": "gzip"}
    )
    assert_problem(response, status=415, code="unsupported-media-type")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/lead", 405, "method-not-allowed"),
        ("GET", "/leads/1/2/3", 404, "not-found"),
        ("GET", "/%ff", 404, "not-found"),
        ("GET", "//leads", 404, "not-found"),
        ("GET", "/leads" + "/" * 3000, 404, "not-found"),
        ("PUT", "/leads", 405, "method-not-allowed"),
        ("DELETE", "/leads", 405, "method-not-allowed"),
        ("POST", "/health", 405, "method-not-allowed"),
        ("TRACE", "/leads", 405, "method-not-allowed"),
        ("PROPFIND", "/leads", 405, "method-not-allowed"),
    ],
)
async def test_there_is_nothing_there(
    method: str, path: str, status: int, code: str, aloof_api: httpx.AsyncClient
) -> None:
    response = await aloof_api.request(method, path)
    assert_problem(response, status=status, code=code)
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "malformed-request"),
        (b"GET /health HTTP/9.9\r\n" + HOST + b"\r\n", 400, "malformed-request"),
        (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed-request"),
        (b"GET http://[::1/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed-request"),
        (b"GARBAGE\r\n\r\n", 400, "malformed-request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, "malformed-request"),
        (b"GET /health HTTP/1.1\r\n" + HOST + b"Bad Name: x\r\n\r\n", 400, "malformed-request"),
        (b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400, "malformed-request"),
        (
            b"GET /health HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 500 + b"\r\n",
            400,
            "malformed-request",
        ),
        (b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000, 431, "headers-too-large"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST, 431, "headers-too-large"),
        (
            b"POST /leads HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
            400,
            "malformed-request",
        ),
        (
            b"POST /leads HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "malformed-request",
        ),
        (
            b"POST /authentication/login HTTP/1.1\r\n"
            + HOST
            + b"Content-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
            400,
            "malformed-request",
        ),
        (
            b"POST /authentication/login HTTP/1.1\r\n"
            + HOST
            + b"Content-Type: application/json\r\n"
            b"Content-Length: 2\r\nExpect: the-best\r\n\r\n{}",
            417,
            "expectation-failed",
        ),
        (b"GET /leads?limit=%zz HTTP/1.1\r\n" + HOST + b"\r\n", 401, "unauthenticated"),
        (b"GET /leads/%zz HTTP/1.1\r\n" + HOST + b"\r\n", 401, "unauthenticated"),
    ],
)
async def test_what_is_hardly_http_is_answered_in_the_same_shape(
    request_: bytes, status: int, code: str, aloof_api: httpx.AsyncClient
) -> None:
    answer = await send_raw(aloof_api, request_)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]


async def test_bad_percent_encoding_is_no_lead(aloof_api: httpx.AsyncClient) -> None:
    token = aloof_api.headers["Authorization"].encode()
    for target in (b"/leads/%zz", b"/leads/%", b"/leads/%ff%fe"):
        request = b"GET %b HTTP/1.1\r\n%bAuthorization: %b\r\n\r\n" % (target, HOST, token)
        assert (await send_raw(aloof_api, request)).status == 404


async def test_a_client_may_ask_before_it_sends_the_body(aloof_api: httpx.AsyncClient) -> None:
    request = (
        b"POST /authentication/login HTTP/1.1\r\n%bContent-Type: application/json\r\n"
        b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}"
    )
    assert (await send_raw(aloof_api, request % HOST)).status == 100


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("abc-123_x.Y", True), ("a b", False), ("x" * 129, False), ("<script>", False)],
)
async def test_a_sane_request_id_is_kept(
    given: str,
    is_kept: bool,  # noqa: FBT001 (a parameter of the table)
    aloof_api: httpx.AsyncClient,
) -> None:
    response = await aloof_api.get("/health", headers={"X-Request-Id": given})
    assert (response.headers["X-Request-Id"] == given) == is_kept


async def test_request_ids_differ(aloof_api: httpx.AsyncClient) -> None:
    ids = {(await aloof_api.get("/health")).headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5
