"""The bounded queue."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import DeadlineExceeded, QueueFull
from handlers.admission import Admission, Deadline


def test_never_more_run_than_are_admitted() -> None:
    admission = Admission(concurrency=3, queue_limit=100)
    lock, running, most = threading.Lock(), 0, 0

    def run(_: int) -> None:
        nonlocal running, most
        with admission.slot(Deadline(30)):
            with lock:
                running += 1
                most = max(most, running)
            with lock:
                running -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(500)))
    assert 1 <= most <= 3
    assert (admission.running, admission.waiting) == (0, 0)


def test_a_full_queue_refuses_and_counts_on() -> None:
    admission = Admission(concurrency=1, queue_limit=0)
    with admission.slot(Deadline(30)), pytest.raises(QueueFull), admission.slot(Deadline(30)):
        pass
    assert admission.waiting == 0
    with admission.slot(Deadline(30)) as waited_ms:
        assert waited_ms >= 0


def test_nobody_waits_past_the_deadline() -> None:
    admission = Admission(concurrency=1, queue_limit=1)
    with (
        admission.slot(Deadline(30)),
        pytest.raises(DeadlineExceeded),
        admission.slot(Deadline(0.01)),
    ):
        pass
    assert admission.waiting == 0


def test_a_failing_run_gives_its_slot_back() -> None:
    admission = Admission(concurrency=1, queue_limit=0)
    with pytest.raises(RuntimeError), admission.slot(Deadline(30)):
        raise RuntimeError
    with admission.slot(Deadline(30)):
        pass


def test_a_deadline_that_has_passed_is_told() -> None:
    Deadline(30).check()
    passed = Deadline(0)
    assert passed.remaining_s == 0
    with pytest.raises(DeadlineExceeded):
        passed.check()
