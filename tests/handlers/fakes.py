"""Fakes of what a service is made of: an engine that tests steer, a classifier around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.artifact import ModelCard
from core.classifier import PROBE_TEXT, Classifier
from core.errors import ClassifierError
from core.settings import Settings
from handlers.loading import BackgroundLoader
from handlers.service import Service
from handlers.wire import Request, Response
from tests.fakes import WordLengths

CARD = ModelCard("fake", "1", "single_label", ("low", "high"), max_tokens=8)


class FixedLogits:
    """Gives the same logits to every text, after `before` was called with its ids."""

    def __init__(
        self, logits: Sequence[float], before: Callable[[list[int]], None] = lambda ids: None
    ) -> None:
        self._logits = logits
        self._before = before

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self._before(input_ids[0].tolist())
        return np.array([self._logits], dtype=np.float32)


class Gate:
    """Blocks runs until it is opened, and tells when one has come to it. The probe may pass."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, ids: list[int]) -> None:
        if ids != [len(word) for word in PROBE_TEXT.split()]:
            self.reached.release()
            assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()


def fake_classifier(
    engine: Any = None, card: ModelCard = CARD, error: ClassifierError | None = None
) -> Classifier:
    if error:
        raise error
    return Classifier(card, WordLengths(), engine or FixedLogits([0.0, 1.0]), "c0ffee")


def settings(**changes: Any) -> Settings:
    return replace(Settings.from_env({}), **changes)


def service(load: Callable[[], Classifier] = fake_classifier, **changes: Any) -> Service:
    return Service(settings(**changes), BackgroundLoader(load))


def ask(service: Service, method: str, path: str, body: Any = None, **headers: str) -> Response:
    raw = b"" if body is None else msgspec.json.encode(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names.setdefault("content-type", "application/json")
    return service.handle(Request(method, path, names, raw))


def content(response: Response) -> Any:
    return msgspec.json.decode(response.body)
