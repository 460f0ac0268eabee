"""How many requests run at once, how many may wait, and for how long.

May import: `core.errors`, the standard library.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, perf_counter

from core.errors import DeadlineExceeded, QueueFull


class Deadline:
    """The moment by which a request must be answered."""

    def __init__(self, seconds: float) -> None:
        self._at = monotonic() + seconds

    @property
    def remaining_s(self) -> float:
        return max(0.0, self._at - monotonic())

    def check(self) -> None:
        """Raises `DeadlineExceeded` when the time is up."""
        if monotonic() >= self._at:
            raise DeadlineExceeded("the request's time was up before its answer; try again")


class Admission:
    """A bounded queue before the engine; thread-safe."""

    def __init__(self, concurrency: int, queue_limit: int) -> None:
        self._free = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._queue_limit = queue_limit
        self._running = 0
        self._waiting = 0

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self._waiting

    @contextmanager
    def slot(self, deadline: Deadline) -> Iterator[float]:
        """Holds one of the `concurrency` slots; yields the milliseconds that it waited.

        Raises `QueueFull` at once when `queue_limit` requests wait already, `DeadlineExceeded` when
        no slot came free in time.
        """
        start = perf_counter()
        if not self._free.acquire(blocking=False):
            self._wait(deadline)
        with self._lock:
            self._running += 1
        try:
            yield (perf_counter() - start) * 1e3
        finally:
            with self._lock:
                self._running -= 1
            self._free.release()

    def _wait(self, deadline: Deadline) -> None:
        with self._lock:
            if self._waiting >= self._queue_limit:
                raise QueueFull(f"{self._queue_limit} requests wait already; try again")
            self._waiting += 1
        try:
            if not self._free.acquire(timeout=deadline.remaining_s):
                raise DeadlineExceeded("the request waited in the queue until its time was up")
        finally:
            with self._lock:
                self._waiting -= 1
