"""Starts Cloud Run's server, in the container and by `make run`: `python -m handlers.serve`.

What takes long is imported late, in the order that makes the start short: the model's own imports
first, because it then loads in a thread, beside the imports of the server and the framework.

May import: `core.errors`, `core.settings`, of `handlers` all but the adapters.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any, NoReturn


def _end_at_once(number: int, frame: Any) -> NoReturn:
    os._exit(0 if number == signal.SIGTERM else 128 + number)


gc.disable()  # until all is imported: nothing of that is garbage
# Before all else, too: the first process of a container heeds no signal that it has not asked for.
signal.signal(signal.SIGTERM, _end_at_once)
signal.signal(signal.SIGINT, _end_at_once)

import socket  # noqa: E402

from core.errors import SettingsError  # noqa: E402
from core.settings import Settings  # noqa: E402
from handlers.deferred import ENGINE, defer  # noqa: E402

# As many connections as the kernel keeps while all threads are taken, or while the server starts.
BACKLOG = 2048


def main() -> None:
    settings = _settings()
    # Who connects from now on waits for the answer, instead of being refused until all is loaded.
    listener = _listen(settings.port)
    defer(ENGINE)
    if settings.workers == 1:
        from handlers.loading import loader_of

        loader_of(settings)
    from handlers.server import Server

    Server(settings, listener).run()


def _settings() -> Settings:
    try:
        return Settings.from_env(os.environ)
    except SettingsError as error:
        sys.exit(f"error: {error}")


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("0.0.0.0", port), backlog=BACKLOG)
    except OSError as error:
        sys.exit(f"error: PORT={port} cannot be used: {error.strerror}")


if __name__ == "__main__":
    main()
