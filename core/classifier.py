"""texts -> predictions: the module's face. Thread-safe, synchronous.

May import: numpy, and the rest of `core`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from core.artifact import ModelCard, open_artifact
from core.engine_onnx import OnnxEngine
from core.errors import InferenceFailed, InvalidInput, InvalidOption, ModelUnavailable
from core.tokenizer import Tokenizer
from core.types import Prediction, Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of a text that any tokenizer takes; its answer is the check that graph, tokenizer and card agree.
PROBE_TEXT = "have a lovely day"
DEFAULT_THRESHOLD = 0.5


class Encoder(Protocol):
    """What turns a text into tokens; `core.tokenizer.Tokenizer` is one."""

    def encode(self, text: str, truncate: bool) -> Tokens: ...


class Engine(Protocol):
    """What turns tokens into logits; `core.engine_onnx.OnnxEngine` is one."""

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]: ...


class Classifier:
    """A loaded model. Each text is a run of its own, so no answer depends on a batch-mate."""

    def __init__(
        self,
        card: ModelCard,
        encoder: Encoder,
        engine: Engine,
        checksum: str = "",
        load_ms: dict[str, float] | None = None,
    ) -> None:
        """`load_ms` tells what each phase of loading took, in milliseconds.

        Raises `ModelUnavailable` when the engine does not run or its logits do not fit the labels.
        """
        self.card = card
        self.checksum = checksum
        self.load_ms = load_ms or {}
        self._encoder = encoder
        self._engine = engine
        self._check_head()

    @property
    def identity(self) -> dict[str, str]:
        """What logs, files and metrics name the model by; answers give its name and version."""
        return {"name": self.card.name, "version": self.card.version, "checksum": self.checksum}

    @classmethod
    def load(cls, directory: Path, threads: int, verify_weights: bool = False) -> Classifier:
        """The classifier of a model directory, ready to answer.

        Raises `ModelUnavailable` naming what is missing, altered or unfit.
        """
        start = perf_counter()
        artifact = open_artifact(directory, verify_weights)
        opened = perf_counter()
        card = artifact.card
        encoder = Tokenizer(artifact.tokenizer, card.max_tokens, card.decode_html_entities)
        tokenized = perf_counter()
        engine = OnnxEngine(artifact.graph, threads)
        ready = perf_counter()
        load_ms = {
            "artifact": (opened - start) * 1e3,
            "tokenizer": (tokenized - opened) * 1e3,
            "engine": (ready - tokenized) * 1e3,
        }
        return cls(card, encoder, engine, artifact.checksum, load_ms)

    def classify(self, texts: Sequence[str], truncate: bool = True) -> list[Prediction]:
        """A prediction for each text, in order.

        Raises the first `InvalidInput` met (`BlankText`, `TextTooLong` unless `truncate`,
        `UnencodableText`), or `InferenceFailed`.
        """
        return [self.classify_one(text, truncate) for text in texts]

    def classify_each(
        self, texts: Sequence[str], truncate: bool = True
    ) -> list[Prediction | InvalidInput]:
        """Like `classify`, but a bad text is its own error in the list and stops no other."""
        return [self._outcome(text, truncate) for text in texts]

    def classify_one(self, text: str, truncate: bool = True) -> Prediction:
        """The prediction for `text`; raises as `classify` does."""
        start = perf_counter()
        tokens = self._encoder.encode(text, truncate)
        tokenized = perf_counter()
        logits = self._engine.run(tokens.input_ids[np.newaxis, :])[0]
        probabilities = self._probabilities(logits)
        return self._prediction(
            probabilities,
            tokens,
            tokenize_ms=(tokenized - start) * 1e3,
            infer_ms=(perf_counter() - tokenized) * 1e3,
        )

    def check_top_k(self, top_k: int | None) -> None:
        """Raises `InvalidOption` unless `top_k` is None or from 1 to the number of labels."""
        labels = len(self.card.labels)
        if top_k is not None and not 1 <= top_k <= labels:
            raise InvalidOption(f"top_k must be from 1 to {labels}, the number of labels")

    def _outcome(self, text: str, truncate: bool) -> Prediction | InvalidInput:
        try:
            return self.classify_one(text, truncate)
        except InvalidInput as error:
            return error

    def _probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(labels,) float64 of (labels,) logits: a softmax, or a sigmoid for multi-label models.

        The division is by Guo et al.'s (2017) temperature.
        """
        scaled = logits.astype(np.float64) / self.card.temperature
        if not np.isfinite(scaled).all():
            raise InferenceFailed("the model's logits are not finite")
        if self.card.task == "multi_label":
            return sigmoid(scaled)
        return softmax(scaled)

    def _prediction(
        self,
        probabilities: NDArray[np.float64],
        tokens: Tokens,
        tokenize_ms: float,
        infer_ms: float,
    ) -> Prediction:
        labels = self.card.labels
        order = np.argsort(-probabilities, kind="stable")
        scores = {labels[i]: float(probabilities[i]) for i in order}
        best = labels[order[0]]
        multi_label = self.card.task == "multi_label"
        return Prediction(
            predicted_label=None if multi_label else best,
            predicted_labels=self._above_threshold(scores) if multi_label else None,
            confidence=scores[best],
            all_scores=scores,
            token_count=len(tokens.input_ids),
            truncated=tokens.truncated,
            tokenize_ms=tokenize_ms,
            infer_ms=infer_ms,
        )

    def _above_threshold(self, scores: dict[str, float]) -> tuple[str, ...]:
        thresholds = self.card.thresholds or (DEFAULT_THRESHOLD,) * len(self.card.labels)
        needed = dict(zip(self.card.labels, thresholds, strict=True))
        return tuple(label for label, score in scores.items() if score >= needed[label])

    def _check_head(self) -> None:
        """Runs the probe text once: the first answer then finds every buffer made."""
        ids = self._encoder.encode(PROBE_TEXT, truncate=True).input_ids
        try:
            shape = self._engine.run(ids[np.newaxis, :]).shape
        except InferenceFailed as error:
            raise ModelUnavailable(f"the graph cannot be run: {error}") from error
        if shape != (1, len(self.card.labels)):
            raise ModelUnavailable(
                f"the graph gives logits of shape {shape} for one text,"
                f" but the card names {len(self.card.labels)} labels"
            )


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis; the largest logit is subtracted first, so nothing overflows."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Elementwise; written with exp of a non-positive number only, so nothing overflows."""
    decayed = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, decayed) / (1.0 + decayed)
