"""Addresses of servers as people paste them, parsed once for every client that connects.

What is wrong is a `ValueError` that names the part and quotes nothing: there is a password in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

POSTGRES_PORT = 5432
REDIS_PORT = 6379
SENTINEL_PORT = 26379
LARGEST_PORT = 65_535


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What both drivers know.
_POSTGRES_OPTIONS = _names("""
    sslmode sslrootcert sslcert sslkey sslcrl sslpassword ssl_min_protocol_version
    ssl_max_protocol_version target_session_attrs options
""")
# Parts of the address that may stand behind the question mark.
_POSTGRES_PARTS = _names("user password host port dbname database")
# What other clients read: it says nothing about where the server is, or we decide it ourselves.
_POSTGRES_FOREIGN = _names("""
    pgbouncer connection_limit pool_timeout pool_size pool_mode schema currentSchema search_path
    statement_cache_size prepared_statement_cache_size prepareThreshold prepare_threshold
    preparedStatementCacheQueries connect_timeout connectTimeout loginTimeout socket_timeout
    socketTimeout statement_timeout sslaccept sslidentity sslnegotiation channel_binding gssencmode
    application_name ApplicationName fallback_application_name keepalives keepalives_idle
    keepalives_interval keepalives_count tcpKeepAlive tcp_user_timeout client_encoding charset
    timezone TimeZone uselibpqcompat supa workaround load_balance_hosts loadBalanceHosts
    reWriteBatchedInserts binary_parameters default_query_exec_mode require_auth sslcompression
    serverVersion ssl
""")
_REDIS_FOREIGN = _names("""
    ssl tls family protocol decode_responses encoding max_connections client_name name timeout
    socket_timeout socket_connect_timeout socket_keepalive retry_on_timeout retry_on_error
    health_check_interval connectTimeout pool_size lib_name lib_version
""")
_REDIS_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
# Those with a plus name several hosts.
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "rediss+cluster")

# Behind the last @ that can be the one before the hosts: a password may have any of these too.
_match_place = re.compile(
    r"(?P<hosts>[^/?#@]*)(?:/(?P<path>[^?#@]*))?(?:\?(?P<query>[^#]*))?"
).fullmatch
_match_host = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?").fullmatch
_match_name = re.compile(r"[\w.-]+").fullmatch
_is_placeholder = re.compile(
    r"^(\[.*\]|<.*>|\{.*\})$|\bYOUR[-_ ]?(DB|DATABASE|HOST|PASS|PROJECT|REF|USER)", re.IGNORECASE
).search


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """Where a database is. `options` are what every driver knows: TLS, and which host is wanted."""

    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Where sentinels are, and of which group of theirs the master is wanted."""

    hosts: list[tuple[str, int]]
    group: str
    database: int
    username: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Parts:
    """An address in pieces, still encoded but for the query's values."""

    scheme: str
    credentials: str = field(repr=False)
    hosts: str
    path: str
    query: dict[str, str]


def parse_postgres_address(text: str) -> PostgresAddress:
    """Return the place and the credentials in a connection string."""
    parts = _split(text, example="postgresql://user:password@host:5432/database")
    if parts.scheme.removeprefix("jdbc:").partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("must begin with postgresql://")
    query = parts.query
    if not query.keys() <= _POSTGRES_OPTIONS | _POSTGRES_PARTS | _POSTGRES_FOREIGN:
        known = ", ".join(sorted(_POSTGRES_OPTIONS))
        raise ValueError(f"a parameter behind the ? is not known; known are {known}")
    user, has_password, password = parts.credentials.partition(":")
    hosts = _hosts(query.get("host") or parts.hosts, query.get("port", ""))
    return PostgresAddress(
        hosts=tuple(host for host, _ in hosts),
        ports=tuple(port or POSTGRES_PORT for _, port in hosts),
        user=_decoded("user", user) or query.get("user"),
        password=_decoded("password", password) if has_password else query.get("password"),
        database=_decoded("database", parts.path) or query.get("dbname") or query.get("database"),
        options=_options(query),
    )


def normalized_redis_url(text: str) -> str:
    """Return an address of Redis in the one form that the client reads as it was meant.

    It may begin with any of `REDIS_SCHEMES`.
    """
    parts = _split(text, example="redis://user:password@host:6379/0")
    scheme = _REDIS_SCHEMES.get(parts.scheme, parts.scheme)
    if scheme not in REDIS_SCHEMES:
        raise ValueError(f"must begin with {':// or '.join(REDIS_SCHEMES)}://")
    query = {
        name: value.lower().removeprefix("cert_") if name == "ssl_cert_reqs" else value
        for name, value in parts.query.items()
        if name not in _REDIS_FOREIGN
    }
    if any(name != "db" and not name.startswith("ssl_") for name in query):
        raise ValueError("a parameter behind the ? is not known; known are db and ssl_...")
    database = query.get("db") or (parts.path.rpartition("/")[2] if scheme != "unix" else "")
    is_group = scheme == "redis+sentinel" and "/" not in parts.path
    if database and not is_group and not (database.isascii() and database.isdigit()):
        raise ValueError("the database must be a number")
    return f"{scheme}://{_redis_credentials(parts)}{_redis_hosts(scheme, parts)}/{parts.path}" + (
        f"?{urlencode(query)}" if query else ""
    )


def parse_sentinel_address(url: str) -> SentinelAddress:
    """Return the parts of a normalized `redis+sentinel://` address."""
    parts = split_url(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.rpartition(":")
    group, _, database = parts.path.strip("/").partition("/")
    return SentinelAddress(
        redis_hosts(hosts, default_port=SENTINEL_PORT),
        group,
        int(database or 0),
        unquote(username) or None,
        unquote(password) or None,
    )


def host_in_url(name: str) -> str:
    """Return the name of one host as it stands in an address."""
    if _is_ipv6(f"[{name}]"):
        return f"[{name}]"
    if not _match_name(name):
        raise ValueError("must be the name of a host alone; an address goes into REDIS_URL")
    return name


def _split(text: str, *, example: str) -> _Parts:
    text = _without_quotes(text.strip())
    if any(character < " " for character in text):
        raise ValueError("has a line break or another control character in it")
    scheme, is_address, rest = text.partition("://")
    if not is_address:
        raise ValueError(f"must look like {example}")
    ends = [at for at, character in enumerate(rest) if character == "@"]
    for end in [*reversed(ends), -1]:
        place = _match_place(rest[end + 1 :])
        if place is not None:
            query = dict(parse_qsl(place["query"] or "", keep_blank_values=True))
            credentials = rest[: max(end, 0)]
            return _Parts(scheme.lower(), credentials, place["hosts"], place["path"] or "", query)
    raise ValueError(f"has a character in the wrong place; it must look like {example}")


def _without_quotes(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if is_quoted else text


def _decoded(part: str, text: str) -> str | None:
    """Return a part as it is meant; a % that encodes nothing is itself."""
    if _is_placeholder(text):
        raise ValueError(
            f"the {part} is still a placeholder such as [YOUR-PASSWORD], or stands in its brackets"
        )
    return unquote(text) or None


def _hosts(text: str, ports: str) -> list[tuple[str, int | None]]:
    """Return the hosts in a list such as `one:5432,[::1],%2Fvar%2Frun` and their ports."""
    default = ports.split(",")
    return [
        _host(one, default[place] if len(default) > 1 and place < len(default) else default[0])
        for place, one in enumerate(text.split(","))
    ]


def _host(text: str, default_port: str) -> tuple[str, int | None]:
    match = _match_host(text)
    name, port = (text, "") if match is None else (match[1], match[2] or default_port)
    if match is not None and _is_ipv6(name):
        host = name[1:-1]
    else:
        host = _decoded("host", name) or ""
        if not (host.startswith("/") or _match_name(host)):
            raise ValueError("the host is missing, or no name or address of one")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= LARGEST_PORT):
        raise ValueError(f"the port must be a number from 1 to {LARGEST_PORT}")
    return host, int(port) if port else None


def _is_ipv6(name: str) -> bool:
    try:
        IPv6Address(name[1:-1])
    except ValueError:
        return False
    return name.startswith("[")


def split_url(url: str) -> SplitResult:
    """Return the parts of an address that may name several hosts.

    Newer versions of Python refuse several in brackets.
    """
    scheme, separator, rest = url.partition("://")
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    return urlsplit(f"{scheme}{separator}{rest[len(netloc) :]}")._replace(netloc=netloc)


def redis_hosts(hosts: str, *, default_port: int = REDIS_PORT) -> list[tuple[str, int]]:
    """Return the hosts and ports that an address of Redis names, divided by commas."""
    parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    return [(one.hostname or "localhost", one.port or default_port) for one in parts]


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _options(query: Mapping[str, str]) -> dict[str, str]:
    options = {name: value for name, value in query.items() if name in _POSTGRES_OPTIONS}
    if query.get("ssl", "").lower() in {"true", "1", "require"}:
        options.setdefault("sslmode", "require")
    if options.get("sslmode") == "no-verify":  # so Node's driver names it
        options["sslmode"] = "require"
    modes = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
    if options.get("sslmode", "prefer") not in modes:
        raise ValueError(f"sslmode must be one of {', '.join(sorted(modes))}")
    return options


def _redis_credentials(parts: _Parts) -> str:
    user, has_password, password = parts.credentials.partition(":")
    if not has_password:
        user, password = "", user
    user, password = _decoded("user", user) or "", _decoded("password", password) or ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


def _redis_hosts(scheme: str, parts: _Parts) -> str:
    if scheme == "unix":
        return ""
    hosts = _hosts(parts.hosts, "")
    if len(hosts) > 1 and "+" not in scheme:
        raise ValueError("only redis+sentinel:// and redis+cluster:// take several hosts")
    return ",".join(bracketed(host) + ("" if port is None else f":{port}") for host, port in hosts)
