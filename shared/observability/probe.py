"""Ask a health address from inside a container: `python -m shared.observability.probe URL`.

Ends with 0 when the answer is 200, else with 1. Imports little, since it is started every
few seconds.
"""

import sys
from datetime import timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

TIMEOUT = timedelta(seconds=4)


def is_well(url: str) -> bool:
    """Return whether an http address answers 200 in time."""
    address = urlsplit(url)
    connection = HTTPConnection(
        address.hostname or "", address.port, timeout=TIMEOUT.total_seconds()
    )
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_well(sys.argv[1]) else 1)
