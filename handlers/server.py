"""The server of Cloud Run's adapter: gunicorn's threaded worker around the Functions Framework.

One process does it all, which saves a start the fork and what comes with it: the worker runs
without the master that would watch it, for the cloud, or the container's restart policy, does that.
With more workers than one there is gunicorn's master, too.

May import: gunicorn, functions_framework (late), `core.settings`, `handlers.deferred`,
`handlers.loading`, `handlers.request_log`, `handlers.startup`.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NoReturn

from core.settings import Settings
from handlers import request_log, startup
from handlers.deferred import FLASK, GUNICORN, defer

defer(GUNICORN)

from gunicorn.app.base import BaseApplication  # noqa: E402
from gunicorn.workers.gthread import ThreadWorker  # noqa: E402

SOURCE = Path(__file__).resolve().parent / "cloudrun.py"
# Threads beside those that run or wait in the queue: they refuse with 429 and answer probes.
SPARE_THREADS = 8
# Connections beside those that threads work on: idle ones between two requests, mostly.
SPARE_CONNECTIONS = 1000
LINGER_S = 2.0
# What `accept` says when this process, or the machine, has no room for another connection.
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class JsonLog:
    """What gunicorn has to say, as JSON lines; its access log is the service's own.

    A message without what may quote a request, and so a text.
    """

    def __init__(self, config: Any) -> None:
        """`config` is gunicorn's; nothing of it is needed."""

    def debug(self, message: str, *values: Any, **extra: Any) -> None:
        pass

    info = access = debug

    def warning(self, message: str, *values: Any, **extra: Any) -> None:
        request_log.write("WARNING", _without_quotes(message, values))

    def error(self, message: str, *values: Any, exc_info: bool = False, **extra: Any) -> None:
        error = sys.exception() if exc_info else None
        trace = {"stack_trace": request_log.stack_trace(error)} if error else {}
        request_log.write("ERROR", _without_quotes(message, values), **trace)

    critical = error

    def exception(self, message: str, *values: Any, **extra: Any) -> None:
        self.error(message, *values, exc_info=True)

    def close_on_exec(self) -> None:
        pass

    reopen_files = close_on_exec


def _without_quotes(message: str, values: tuple[Any, ...]) -> str:
    """Numbers and signals stay; a message that was put together already ends at its first value."""
    if not values:
        return re.split(r"[:='\"]", message, maxsplit=1)[0].strip()
    return message % tuple(
        value if isinstance(value, int) or re.fullmatch(r"SIG[A-Z0-9]+", str(value)) else "…"
        for value in values
    )


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker, with ends of its own.

    A stop takes the connections that were made before it and refuses later ones. A client that does
    not close its side holds a thread for a while, instead of the one that accepts connections.
    """

    def handle(self, conn: Any) -> Any:
        """One request on a connection, in a thread of the pool; False when that was the last."""
        goes_on = super().handle(conn)
        if goes_on is False:
            # Else gunicorn waits for the client's end in the one thread that accepts connections.
            _wait_for_end(conn.sock)
        return goes_on

    def accept(self, listener: Any) -> None:
        """Takes a connection; where there is no room for one, it waits in the kernel."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self.log.error("No room for another connection")
            sleep(0.05)

    def run(self) -> NoReturn:
        """Serves until a signal; ends the process itself.

        Requests that outlive the time to stop would keep their threads, and so the process.
        """
        super().run()
        os._exit(0)

    def handle_quit(self, sig: int, frame: Any) -> NoReturn:
        """SIGINT and SIGQUIT: no request is waited for."""
        os._exit(0)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            self._close_port()

    def _close_port(self) -> None:
        for listener in self.sockets:
            if listener.fileno() != -1:
                self._accept_waiting(listener)
                # At once, not after the last answer: who comes later is refused and may ask
                # elsewhere, instead of being reset with a request on the way.
                listener.close()
        # Those that have said nothing for five seconds already.
        for silent in self.pending_conns:
            silent.timeout = min(silent.timeout, monotonic() + LINGER_S)

    def _accept_waiting(self, listener: Any) -> None:
        """Takes what the kernel holds: those clients see themselves connected."""
        before = -1
        while before < self.nr_conns:
            before = self.nr_conns
            self.accept(listener)


def _wait_for_end(connection: socket.socket) -> None:
    """Ends our side and reads what still comes: else the client could lose the answer.

    That is RFC 9112, section 9.6. It takes `LINGER_S` at most: then the connection is at its end
    whatever the client does.
    """
    end = monotonic() + LINGER_S
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(LINGER_S)
        while monotonic() < end and connection.recv(65536):
            pass
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


class LoneWorker(Worker):
    """Without a master: whose child this process is does not matter."""

    def is_parent_alive(self) -> bool:
        return True


class Server(BaseApplication):  # type: ignore[misc]
    """Serves on `listener` until SIGTERM, with as many processes as the settings say."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        threads = settings.concurrency + settings.queue_limit + SPARE_THREADS
        for name, value in {
            "bind": f"fd://{self._listener.fileno()}",
            "workers": settings.workers,
            "worker_class": Worker,
            "threads": threads,
            "worker_connections": threads + SPARE_CONNECTIONS,
            # A request that was read has a deadline of its own; a worker is never killed for being
            # slow.
            "timeout": 0,
            # Cloud Run kills 10 s after SIGTERM; requests in flight get 4 of them.
            "graceful_timeout": 4,
            # Longer than load balancers commonly keep an idle connection (60 s): they close it
            # first and lose no request to a connection that ends under them.
            "keepalive": 75,
            "logger_class": JsonLog,
            "control_socket_disable": True,
            # Callers could set a path by these headers; no front end of ours does.
            "forwarder_headers": "",
            "limit_request_line": 8190,
            "when_ready": self._greet,
            "post_fork": self._after_fork,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The framework's application; it imports the function once, in the process that serves."""
        os.environ.setdefault("FUNCTION_TARGET", "classify")
        defer(FLASK)
        from functions_framework import create_app

        app = create_app(source=str(SOURCE))
        startup.settle()
        return app

    def run(self) -> None:
        if self._settings.workers > 1:
            startup.settle()  # the master's start is over
            super().run()
            return
        self._greet(self)
        log = self.cfg.logger_class(self.cfg)
        worker = LoneWorker(1, os.getppid(), [self._listener], self, 0, self.cfg, log)
        worker.init_process()

    def _greet(self, server: Any) -> None:
        if self._settings.platform == "local":
            port = self._settings.port
            print(f"Listening on http://localhost:{port}/", flush=True)
            print(f"Documentation: http://localhost:{port}/docs", flush=True)

    def _after_fork(self, server: Any, worker: Any) -> None:
        """The model loads here: ONNX Runtime's threads do not live through a fork."""
        if worker.age > self._settings.workers:
            startup.restart()
        from handlers.loading import loader_of

        loader_of(self._settings)
