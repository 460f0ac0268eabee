"""How Cloud Run's server is run, in the container and by `make run`: gunicorn's settings.

    gunicorn --config handlers/gunicorn.conf.py

This runs in the master. May import: `core.settings`, `core.errors`, `handlers.deferred`,
`handlers.loading`, `handlers.startup`, the standard library.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # gunicorn adds it too, but only after it has read this file

from core.errors import SettingsError  # noqa: E402
from core.settings import Settings  # noqa: E402
from handlers import startup  # noqa: E402
from handlers.deferred import FLASK, defer  # noqa: E402

# Threads beside those that run or wait in the queue: they refuse with 429 and answer probes.
SPARE_THREADS = 8


def _settings() -> Settings:
    try:
        return Settings.from_env(os.environ)
    except SettingsError as error:
        sys.exit(f"error: {error}")


def _check_port_is_free(port: int) -> None:
    """gunicorn itself would try a taken port again and again for five seconds."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            sys.exit(f"error: PORT={port} cannot be used: {error.strerror}")


_chosen = _settings()
_check_port_is_free(_chosen.port)
os.environ.setdefault("FUNCTION_TARGET", "classify")
os.environ.setdefault("FUNCTION_SOURCE", str(ROOT / "handlers" / "cloudrun.py"))

# create_app() imports the function once, in each worker. The framework's own command line would
# import it before the fork, and a session's threads do not live through one.
wsgi_app = "functions_framework:create_app()"
chdir = str(ROOT)
bind = [f"0.0.0.0:{_chosen.port}"]
workers = _chosen.workers
worker_class = "gthread"
threads = _chosen.concurrency + _chosen.queue_limit + SPARE_THREADS
# A request's own deadline bounds it; a worker is never killed for being slow.
timeout = 0
# Cloud Run kills 10 s after SIGTERM; requests in flight get 4 of them.
graceful_timeout = 4
# Longer than load balancers commonly keep an idle connection (60 s): they close it first and lose
# no request to a connection that ends under them.
keepalive = 75
loglevel = "warning"
control_socket_disable = True
# Callers could set a path by these headers; no front end of ours does.
forwarder_headers = ""
limit_request_line = 8190


def when_ready(server: Any) -> None:
    if _chosen.platform == "local":
        print(f"Listening on http://localhost:{_chosen.port}/", flush=True)
        print(f"Documentation: http://localhost:{_chosen.port}/docs", flush=True)


def post_fork(server: Any, worker: Any) -> None:
    if worker.age > _chosen.workers:
        startup.restart()
    # Here, and not with the function's own import: the model loads beside the framework's imports.
    # Not in the master either: ONNX Runtime's threads do not live through a fork.
    from handlers.loading import loader_of

    loader_of(_chosen)
    defer(FLASK)
