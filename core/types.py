"""What goes in and what comes out, as frozen values.

May import: numpy (for types only).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A text as the model reads it: `input_ids` (sequence,) int64, special tokens included."""

    input_ids: NDArray[np.int64]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one text.

    `all_scores` has a probability for every label, from the highest to the lowest; of equal ones
    the model's earlier label comes first. Single-label probabilities sum to one. For a multi-label
    model `predicted_label` is None and `predicted_labels` holds the labels whose probability
    reaches their threshold; for a single-label model `predicted_labels` is None. `confidence` is
    the highest probability. `token_count` counts what the model read, special tokens included. The
    times are in milliseconds and take no part in comparisons.
    """

    predicted_label: str | None
    predicted_labels: tuple[str, ...] | None
    confidence: float
    all_scores: dict[str, float]
    token_count: int
    truncated: bool
    tokenize_ms: float = field(compare=False)
    infer_ms: float = field(compare=False)

    def fields(self, top_k: int | None = None) -> dict[str, Any]:
        """The prediction as JSON has it, everywhere: HTTP answers, files, the command line."""
        result: dict[str, Any] = {"predicted_label": self.predicted_label}
        if self.predicted_labels is not None:
            result["predicted_labels"] = self.predicted_labels
        result["confidence"] = self.confidence
        result["all_scores"] = dict(islice(self.all_scores.items(), top_k))
        result["token_count"] = self.token_count
        result["truncated"] = self.truncated
        return result
