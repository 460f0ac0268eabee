"""Asks the server in this container whether its model is loaded: `python -m handlers.probe`.

For Docker's HEALTHCHECK; the clouds ask over HTTP themselves. A raw socket, because a probe that
imports an HTTP client takes more CPU than the answer. May import: `core.settings`, `core.errors`,
the standard library.
"""

from __future__ import annotations

import os
import socket
import sys

from core.settings import Settings

# More than /health waits for a model that loads.
TIMEOUT_S = 9.5
REQUEST = b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n"


def healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            connection.sendall(REQUEST)
            return connection.makefile("rb").readline().split()[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(Settings.from_env(os.environ).port) else 1)
