"""Whatever Redis answers, no request is a 500, no process ends, nothing accepted is lost."""

from functools import partial

import pytest
from yarl import URL

from tests.support.auth_server import AuthServer
from tests.support.fault_injection import RedisFaults
from tests.support.unforeseen import port_of, system_behind

pytestmark = pytest.mark.long

# What Redis, Valkey and their modules and proxies answer, by code; and what is no answer at all.
ANSWERS = (
    b"-ERR unknown command 'XADD', with args beginning with: 's'\r\n",
    b"-ERR max number of clients reached\r\n",
    b"-ERR upstream connect error\r\n",
    b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL.\r\n",
    b"-BUSYKEY Target key name already exists.\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-DENIED Redis is running in protected mode\r\n",
    b"-EXECABORT Transaction discarded because of previous errors.\r\n",
    b"-INPROG Failover already in progress.\r\n",
    b"-IOERR error or timeout reading from the target\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-MISCONF Errors writing to the AOF file: No space left on device\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-NOGOODSLAVE No suitable replica to promote\r\n",
    b"-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option\r\n",
    b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
    b"-NOPERM this user has no permissions to run the 'xadd' command\r\n",
    b"-NOPROTO unsupported protocol version\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
    b"-NOSCRIPT No matching script. Please use EVAL.\r\n",
    b"-NOTBUSY No scripts in execution right now.\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-REDIRECT 127.0.0.1:6379\r\n",
    b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    b"-UNBLOCKED the stream key no longer exists\r\n",
    b"-UNKILLABLE Sorry the script already executed write commands\r\n",
    b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    b"-SOMETHING that nobody has ever seen\r\n",
    b"-\r\n",
    b"\x00\xff\x17 no answer at all\r\n",
    b"$100\r\nhalf an answer",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
)
WHERE = ("all", "some", "at connect")
EVERY = [(answer, where) for answer in ANSWERS for where in WHERE]


async def test_no_answer_of_redis_is_a_500_or_the_end_of_a_process(
    auth: AuthServer, postgres_dsn: str, redis_url: str
) -> None:
    async with RedisFaults(port_of(redis_url)) as faults:
        behind = str(URL(redis_url).with_port(faults.port))
        cases = [
            (f"{answer!r} {where}", partial(faults.inject, answer, where=where))
            for answer, where in EVERY
        ]
        async with system_behind(auth, postgres_dsn=postgres_dsn, redis_url=behind) as traffic:
            await traffic.try_all(faults, cases)
