"""What the tests of `core` share: a copy of the default model, and a fake engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from core.artifact import ModelCard
from core.settings import DEFAULT_MODEL

LABELS = ("red", "green", "blue")
CARD = ModelCard("fake", "1", "single_label", LABELS, max_tokens=8)

# For properties: how long an example takes says nothing of it on a busy machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class FakeEngine:
    """An `Engine`: the logits that `answer` gives for a text's ids."""

    def __init__(self, answer: Callable[[list[int]], Sequence[float]]) -> None:
        self._answer = answer

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.array([self._answer(input_ids[0].tolist())], dtype=np.float32)


def fixed(*logits: float) -> FakeEngine:
    """An engine that says the same of every text."""
    return FakeEngine(lambda ids: logits)


@pytest.fixture(scope="session")
def default_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model as it is when the tests begin; not to be altered."""
    directory = tmp_path_factory.mktemp("default") / "model"
    shutil.copytree(DEFAULT_MODEL, directory)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def model_copy(default_model: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the default model that a test may break."""
    directory = tmp_path / "model"
    shutil.copytree(default_model, directory)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
