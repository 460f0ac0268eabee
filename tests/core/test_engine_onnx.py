"""The engine feeds what a graph declares; what cannot be loaded or run is our own error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from core.engine_onnx import OnnxEngine
from core.errors import InferenceFailed, ModelUnavailable

IDS = np.array([[3, 1, 4, 1], [5, 9, 2, 6]], dtype=np.int64)
REPOSITORY = Path(__file__).parents[2]


def write_graph(path: Path, inputs: Sequence[str]) -> Path:
    """logits (batch, inputs) float32: the sum of each input over the sequence, in their order."""
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in inputs
    ]
    nodes += [
        helper.make_node("ReduceSum", [f"{name}_f", "axis"], [f"{name}_sum"], keepdims=1)
        for name in inputs
    ]
    nodes.append(helper.make_node("Concat", [f"{name}_sum" for name in inputs], ["logits"], axis=1))
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(inputs)])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


def write_lookup(path: Path, rows: int) -> Path:
    """A graph that fails for an id of `rows` or more."""
    table = helper.make_tensor("table", TensorProto.FLOAT, [rows, 2], [0.5] * (2 * rows))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["looked_up"], axis=0),
        helper.make_node("ReduceMean", ["looked_up"], ["logits"], axes=[1], keepdims=0),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "lookup", [ids], [logits], [table])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


@pytest.mark.parametrize(
    ("inputs", "logits"),
    [
        (["input_ids"], [[9], [22]]),
        (["input_ids", "attention_mask"], [[9, 4], [22, 4]]),
        (["input_ids", "attention_mask", "token_type_ids"], [[9, 4, 0], [22, 4, 0]]),
        (["token_type_ids", "input_ids"], [[0, 9], [0, 22]]),
    ],
)
def test_the_graph_is_fed_the_inputs_that_it_declares(
    tmp_path: Path, inputs: list[str], logits: list[list[int]]
) -> None:
    result = OnnxEngine(write_graph(tmp_path / "g.onnx", inputs), threads=1).run(IDS)
    assert result.dtype == np.float32
    assert result.tolist() == logits


@pytest.mark.parametrize("inputs", [["input_ids", "pixel_values"], ["attention_mask"]])
def test_a_graph_with_other_inputs_is_refused_by_name(tmp_path: Path, inputs: list[str]) -> None:
    path = write_graph(tmp_path / "g.onnx", inputs)
    with pytest.raises(ModelUnavailable) as caught:
        OnnxEngine(path, threads=1)
    assert str(path) in str(caught.value)
    assert inputs[-1] in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "noise", "cut"])
def test_a_corrupt_graph_is_named(tmp_path: Path, damage: str) -> None:
    path = write_graph(tmp_path / "g.onnx", ["input_ids"])
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "noise": b"\xff" * 99, "cut": content[:-20]}[damage])
    with pytest.raises(ModelUnavailable, match=r"g\.onnx does not load"):
        OnnxEngine(path, threads=1)


def test_weights_that_are_missing_are_named(default_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((default_model / "model.onnx").read_bytes())
    with pytest.raises(ModelUnavailable, match=r"model\.onnx does not load"):
        OnnxEngine(tmp_path / "model.onnx", threads=1)


def test_a_run_that_fails_is_ours_and_the_engine_goes_on(tmp_path: Path) -> None:
    engine = OnnxEngine(write_lookup(tmp_path / "g.onnx", rows=10), threads=1)
    with pytest.raises(InferenceFailed) as caught:
        engine.run(np.array([[11]], dtype=np.int64))
    assert caught.value.__cause__ is not None
    assert engine.run(np.array([[9]], dtype=np.int64)).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_session_has_the_threads_that_it_is_told(tmp_path: Path, threads: int) -> None:
    path = write_graph(tmp_path / "g.onnx", ["input_ids"])
    before = len(list(Path("/proc/self/task").iterdir()))
    engine = OnnxEngine(path, threads)
    assert len(list(Path("/proc/self/task").iterdir())) == before + threads - 1
    assert engine.run(IDS).tolist() == [[9], [22]]


def test_importing_the_engine_writes_nothing_under_home(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import core.engine_onnx"]
    subprocess.run(command, cwd=REPOSITORY, env={"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
