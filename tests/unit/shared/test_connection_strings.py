"""What a pasted address is taken for, and that what is wrong with one gives no secret away."""

import pytest
from pydantic import SecretStr, ValidationError

from shared.connection_strings import (
    PostgresAddress,
    host_in_url,
    normalized_redis_url,
    parse_postgres_address,
    split_url,
)
from shared.settings import PostgresSettings, SettingsError, StreamsSettings, load


def address(
    *hosts: str,
    ports: tuple[int, ...] = (5432,),
    user: str | None = "u",
    password: str | None = "p",  # noqa: S107 (a test's)
    database: str | None = "db",
    **options: str,
) -> PostgresAddress:
    return PostgresAddress(
        hosts=hosts or ("h",),
        ports=ports,
        user=user,
        password=password,
        database=database,
        options=options,
    )


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("postgresql://u:p@h/db", address()),
        ("  'postgres://u:p@h/db'\n", address()),
        ('"postgresql+asyncpg://u:p@h/db"', address()),
        ("jdbc:postgresql://h/db?user=u&password=p&prepareThreshold=0", address()),
        ("postgresql://u:p@h:6543/db?pgbouncer=true&connection_limit=1", address(ports=(6543,))),
        ("postgresql://u:p#ss@h/db", address(password="p#ss")),
        ("postgresql://u:p?s/s@h/db", address(password="p?s/s")),
        ("postgresql://u:p@ss:w@h/db", address(password="p@ss:w")),
        ("postgresql://u:p%40%23@h/db", address(password="p@#")),
        ("postgresql://u:100%@h/db", address(password="100%")),
        ("postgresql://u:a b'c\"d@h/db", address(password="a b'c\"d")),
        ("postgresql://u@h", address(password=None, database=None)),
        ("postgresql://h", address(user=None, password=None, database=None)),
        ("postgresql://u:p@[::1]:6000/db", address("::1", ports=(6000,))),
        (
            "postgresql://u:p@a:1,b,[fe80::1]/db",
            address("a", "b", "fe80::1", ports=(1, 5432, 5432)),
        ),
        ("postgresql://u:p@%2Fvar%2Frun/db", address("/var/run")),
        ("postgresql://u:p@/db?host=/var/run&port=1", address("/var/run", ports=(1,))),
        ("postgresql://u:p@h/db?sslmode=no-verify", address(sslmode="require")),
        ("postgresql://u:p@h/db?ssl=true", address(sslmode="require")),
        (
            "postgresql://u:p@h/db?sslmode=disable&options=-c%20a%3Db",
            address(sslmode="disable", options="-c a=b"),
        ),
        (
            "postgresql://postgres.ref:p@aws-0.pooler.supabase.com:6543/postgres?supa=base-pooler.x",
            address(
                "aws-0.pooler.supabase.com", ports=(6543,), user="postgres.ref", database="postgres"
            ),
        ),
    ],
)
def test_postgres_is_where_it_is_meant_to_be(pasted: str, meant: PostgresAddress) -> None:
    assert parse_postgres_address(pasted) == meant


SECRET = "s3cr#t"


@pytest.mark.parametrize(
    ("pasted", "part"),
    [
        ("postgresql://u:[YOUR-PASSWORD]@h/db", "password is still a placeholder"),
        (f"postgresql://u:[{SECRET}]@h/db", "password is still a placeholder"),
        (f"postgresql://postgres.[YOUR-PROJECT-REF]:{SECRET}@h/db", "user is still a placeholder"),
        (f"postgresql://u:{SECRET}@db.[YOUR-PROJECT-REF].supabase.co/db", "host is still"),
        (f"postgresql://u:{SECRET}@h:54x/db", "port must be a number"),
        (f"postgresql://u:{SECRET}@h:65536/db", "port must be a number"),
        (f"postgresql://u:{SECRET}@/db", "host is missing"),
        (f"postgresql://u:{SECRET}@a b/db", "host is missing, or no name"),
        (f"postgresql://u:{SECRET}@[::g]/db", "the host is"),
        (f"postgresql://u:{SECRET}@h/db?sslmode=yes", "sslmode must be one of"),
        (f"postgresql://u:{SECRET}@h/db?ssl_mode=require", "parameter behind the \\? is not known"),
        (f"mysql://u:{SECRET}@h/db", "must begin with postgresql://"),
        (f"host=h password={SECRET}", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}\n@h/db", "control character"),
        (f"{SECRET}", "must look like postgresql://"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_by_part(pasted: str, part: str) -> None:
    with pytest.raises(ValidationError, match=part) as raised:
        PostgresSettings(supabase_connection_string=SecretStr(pasted))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        (" 'rediss://default:p@h:6380' ", "rediss://default:p@h:6380/"),
        ("redis://:p#s/s?@h/1", "redis://:p%23s%2Fs%3F@h/1"),
        ("redis://p@h", "redis://:p@h/"),
        ("valkey://u:p%40@[::1]:1/0", "redis://u:p%40@[::1]:1/0"),
        ("redis://h/0?family=0&protocol=2&socket_timeout=9", "redis://h/0"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("redis+sentinel://p#@a:1,b/group/0", "redis+sentinel://:p%23@a:1,b/group/0"),
        ("redis+cluster://u:p#@a:1,[::1]:2", "redis+cluster://u:p%23@a:1,[::1]:2/"),
        ("rediss+cluster://a", "rediss+cluster://a/"),
    ],
)
def test_redis_is_where_it_is_meant_to_be(pasted: str, meant: str) -> None:
    assert normalized_redis_url(pasted) == meant
    assert normalized_redis_url(meant) == meant


@pytest.mark.parametrize(
    ("variable", "pasted", "part"),
    [
        ("REDIS_URL", f"redis://:{SECRET}@h:x", "the port must be a number"),
        ("REDIS_URL", f"redis://:{SECRET}@h/zero", "the database must be a number"),
        ("REDIS_URL", f"redis://:<{SECRET}>@h", "the password is still a placeholder"),
        ("REDIS_URL", f"http://:{SECRET}@h", "must begin with redis://"),
        ("REDIS_URL", f"redis-cli --tls -u redis://:{SECRET}@h", "must begin with redis://"),
        ("REDIS_URL", f"redis://:{SECRET}@a,b", "only redis\\+sentinel:// and"),
        ("REDIS_HOST", f"redis://:{SECRET}@h", "must be the name of a host alone"),
        ("REDIS_HOST", "h:6379", "must be the name of a host alone"),
    ],
)
def test_what_is_wrong_with_redis_is_said_by_variable_and_part(
    variable: str, pasted: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, pasted)
    with pytest.raises(SettingsError, match=f"^{variable}: .*{part}") as raised:
        load(StreamsSettings)
    assert SECRET not in str(raised.value)


def test_a_host_stands_in_an_address_as_it_must() -> None:
    assert host_in_url("streams") == "streams"
    assert StreamsSettings(redis_host="::1").url == "redis://[::1]:6379/0"


@pytest.mark.parametrize(
    ("url", "netloc", "path"),
    [
        ("redis+sentinel://:p%40ss@[::1],[::2]:1/group/2", ":p%40ss@[::1],[::2]:1", "/group/2"),
        ("redis+cluster://one:7000,[fe80::2]:7001?db=0", "one:7000,[fe80::2]:7001", ""),
        ("postgresql://ada@[::1]:5432,two/leads", "ada@[::1]:5432,two", "/leads"),
        ("redis://localhost", "localhost", ""),
    ],
)
def test_addresses_of_several_hosts_are_split(url: str, netloc: str, path: str) -> None:
    """Newer versions of Python refuse some of these."""
    parts = split_url(url)
    assert (parts.netloc, parts.path) == (netloc, path)
    assert parts.scheme == url.partition(":")[0]
