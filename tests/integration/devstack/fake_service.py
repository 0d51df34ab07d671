"""A service for tests of the supervisor: it logs, answers its health address, ends on SIGTERM."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import FrameType


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Says nothing: probes come by the dozen."""


def end(_signal: int, _frame: FrameType | None) -> None:
    log("service.stopped")
    sys.exit(0)


def log(event: str, **fields: object) -> None:
    entry = {"event": event, "level": "info", "time": "2026-01-02T03:04:05.678Z", **fields}
    print(json.dumps(entry), flush=True)  # noqa: T201  standard output is what is read


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    is_api = Path(__file__).parent.name == "api"
    port = int(os.environ["PORT" if is_api else "HEALTH_PORT"])
    server = HTTPServer(("127.0.0.1", port), Health)
    log("service.started", redis=os.environ.get("REDIS_URL"), port=port)
    server.serve_forever()
