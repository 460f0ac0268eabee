"""input_ids -> logits on ONNX Runtime's CPU provider. The only file that imports onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.errors import InferenceFailed, ModelUnavailable

# The wheel carries telemetry that writes under the home folder at import; this stops it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class OnnxEngine:
    """One session of a classifier's graph; `run` may be called from many threads at once."""

    def __init__(self, graph: Path, threads: int) -> None:
        """`threads` is how many one run uses. Raises `ModelUnavailable` for an unfit graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # The exported graph is optimised already: optimising again would only lengthen the start.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Spinning threads burn a container's CPU quota while they wait.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes share no base but Exception
            raise ModelUnavailable(f"{graph} does not load: {error}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        unknown = sorted(set(self._inputs) - set(INPUTS))
        if unknown or "input_ids" not in self._inputs:
            raise ModelUnavailable(f"{graph} wants the inputs {self._inputs}, known are {INPUTS}")
        self._output = self._session.get_outputs()[0].name

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits (batch, labels) float32 of `input_ids` (batch, sequence) int64, without padding.

        Raises `InferenceFailed` when the graph cannot be run.
        """
        feeds = {
            "input_ids": input_ids,
            "attention_mask": np.ones_like(input_ids),
            "token_type_ids": np.zeros_like(input_ids),
        }
        try:
            outputs = self._session.run(
                [self._output], {name: feeds[name] for name in self._inputs}
            )
        except Exception as error:  # see above
            raise InferenceFailed(f"ONNX Runtime failed: {type(error).__name__}") from error
        return np.asarray(outputs[0], dtype=np.float32)
