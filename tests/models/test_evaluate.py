"""Figures worked out by hand, and an evaluation from end to end on a tiny artifact."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from core.artifact import open_artifact, write_manifest
from core.classifier import Classifier
from models.data import Dataset, Example, read_dataset, split
from models.evaluate import (
    _targets,
    draw_confusion,
    draw_reliability,
    fidelity,
    main,
    quality,
    reliability,
)
from tests.models.conftest import EXPORT_WARNINGS, write_csv

pytestmark = EXPORT_WARNINGS

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The third label is predicted once and never true.
PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.55, 0.45, 0.0]]
)
TARGETS = np.array([0, 1, 1, 1, 0])


def test_the_confusion_has_a_row_for_each_true_label() -> None:
    confusion = quality(PROBABILITIES, TARGETS).confusion
    assert confusion.tolist() == [[2, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_figures_are_those_worked_out_by_hand() -> None:
    judged = quality(PROBABILITIES, TARGETS)
    assert judged.accuracy == pytest.approx(3 / 5)
    assert judged.precision.tolist() == pytest.approx([2 / 3, 1, 0])
    assert judged.recall.tolist() == pytest.approx([1, 1 / 3, 0])
    assert judged.f1.tolist() == pytest.approx([0.8, 0.5, 0])
    assert judged.macro_f1 == pytest.approx(1.3 / 3)
    assert judged.weighted_f1 == pytest.approx((2 * 0.8 + 3 * 0.5) / 5)


def test_the_calibration_error_is_the_one_worked_out_by_hand() -> None:
    # Bins of 1/15: 0.9 twice (one right), 0.7 (right), 0.8 (wrong), 0.55 (right).
    expected = (2 * abs(1 / 2 - 0.9) + abs(1 - 0.7) + abs(0 - 0.8) + abs(1 - 0.55)) / 5
    judged = quality(PROBABILITIES, TARGETS)
    assert judged.expected_calibration_error == pytest.approx(expected)


def test_reliability_counts_every_text_once_and_certainty_in_the_last_bin() -> None:
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    confidence, accuracy, count = reliability(certain, np.array([0, 1, 1]))
    assert {i: int(n) for i, n in enumerate(count) if n} == {7: 1, 14: 2}
    assert (confidence[14], accuracy[14]) == (1.0, 0.5)
    assert (confidence[7], accuracy[7]) == (0.5, 0.0)
    assert (confidence[0], accuracy[0]) == (0.0, 0.0)


@pytest.mark.parametrize(("right", "error"), [([0, 0, 0, 0], 0.25), ([0, 0, 0, 1], 0.0)])
def test_a_model_as_right_as_it_says_has_no_calibration_error(
    right: list[int], error: float
) -> None:
    says = np.array([[0.75, 0.25]] * 4)
    assert quality(says, np.array(right)).expected_calibration_error == pytest.approx(error)


def test_fidelity_is_agreement_and_difference() -> None:
    served = np.array([[0.6, 0.4], [0.5, 0.5], [0.1, 0.9], [0.45, 0.55]])
    reference = np.array([[0.7, 0.3], [0.5, 0.5], [0.1, 0.9], [0.55, 0.45]])
    kept = fidelity(served, reference)
    assert kept.label_agreement == 0.75
    assert kept.mean_difference == pytest.approx(0.05)
    assert kept.max_difference == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("probabilities", "targets"),
    [(PROBABILITIES, TARGETS), (np.array([[1.0, 0.0]]), np.array([1]))],
    ids=["several", "one"],
)
def test_plots_are_drawn_as_png(
    tmp_path: Path, probabilities: NDArray[np.float64], targets: NDArray[np.int64]
) -> None:
    confusion = quality(probabilities, targets).confusion
    draw_confusion(confusion, ["red", "green", "blue"][: len(confusion)], tmp_path / "a.png")
    draw_reliability(probabilities, targets, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG_SIGNATURE)


@pytest.fixture
def served(artifact: Path, tmp_path: Path) -> Path:
    """A copy of the tiny artifact that a test may change."""
    return shutil.copytree(artifact, tmp_path / "served")


def evaluate(served: Path, checkpoint: Path, data: Path, *more: str) -> int:
    plots = ["--plots", str(data.parent / "plots")]
    return main([str(served), "--checkpoint", str(checkpoint), "--data", str(data), *plots, *more])


def printed_figures(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def test_an_evaluation_writes_figures_card_plots_and_a_sound_manifest(
    served: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, notes = write_csv(tmp_path / "data.csv", each=15), tmp_path / "notes.md"
    notes.write_text("## Use\n\nFor soups only.\n")
    assert evaluate(served, checkpoint, data, "--all", "--write-card", str(notes)) == 0
    written = open_artifact(served, verify_weights=True)
    assert written.card.metrics == printed_figures(capsys)
    assert written.card.metrics["texts"] == 30
    readme = (served / "README.md").read_text()
    assert readme.endswith("\n## Use\n\nFor soups only.\n")
    assert f"| accuracy | {written.card.metrics['accuracy']:.3f} |" in readme
    for name in ("confusion.png", "reliability.png"):
        assert (tmp_path / "plots" / name).read_bytes().startswith(PNG_SIGNATURE)


def test_the_figures_are_of_what_is_served(
    served: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "data.csv", each=15)
    before = open_artifact(served).checksum
    evaluate(served, checkpoint, data, "--all")
    figures = printed_figures(capsys)
    classifier = Classifier.load(served, threads=1)
    right = [
        classifier.classify_one(e.text).predicted_label == classifier.card.labels[e.label]
        for e in read_dataset(data).examples
    ]
    assert figures["accuracy"] == pytest.approx(sum(right) / 30, abs=1e-4)
    assert figures["fp32_label_agreement"] > 0.8
    assert figures["fp32_max_difference"] < 0.05
    assert open_artifact(served).checksum == before


def test_each_figure_is_of_what_its_name_says(
    served: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels as served but for one text; a reference whose head says the opposite of everything."""
    source = shutil.copytree(checkpoint, tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    weights |= {name: -weights[name] for name in ("classifier.weight", "classifier.bias")}
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    texts = ["bland", "bland bland", "bland cold", "tasty", "tasty soup", "warm tea", "cold day"]
    labels = [p.predicted_label for p in Classifier.load(served, threads=1).classify(texts)]
    assert labels == ["dull"] * 3 + ["nice"] * 4
    labels[-1] = "dull"
    rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))

    assert evaluate(served, source, tmp_path / "data.csv", "--all") == 0
    figures = printed_figures(capsys)
    assert (figures["precision_nice"], figures["recall_nice"]) == (0.75, 1)
    assert (figures["precision_dull"], figures["recall_dull"]) == (1, 0.75)
    assert (figures["accuracy"], figures["fp32_accuracy"]) == (0.8571, 0.1429)
    assert figures["fp32_label_agreement"] == 0
    assert 0 < figures["fp32_mean_difference"] < figures["fp32_max_difference"]


@pytest.mark.parametrize("recipe", [{}, {"validation_fraction": 0.5, "fold": 1}])
def test_the_texts_are_those_that_training_left_out(
    served: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: dict[str, Any],
) -> None:
    source = shutil.copytree(checkpoint, tmp_path / "source")
    (source / "training.json").write_text(json.dumps({"recipe": recipe}))
    data = write_csv(tmp_path / "data.csv", each=30)
    evaluate(served, source, data)
    fraction, fold = recipe.get("validation_fraction", 0.1), recipe.get("fold", 0)
    _, left_out = split(read_dataset(data), fraction, fold)
    assert printed_figures(capsys)["texts"] == len(left_out.examples) > 0


def test_data_with_other_labels_is_refused(
    served: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\nsoup,red\ntea,blue\n")
    assert evaluate(served, checkpoint, data, "--all") == 1
    assert "labels that the model lacks: ['blue', 'red']" in capsys.readouterr().err


def test_a_multi_label_model_is_not_judged_by_one_label_a_text(
    served: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = json.loads((served / "model.json").read_text())
    (served / "model.json").write_text(json.dumps(card | {"task": "multi_label"}))
    write_manifest(served)
    assert evaluate(served, checkpoint, write_csv(tmp_path / "data.csv"), "--all") == 1
    assert "only single-label models" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()


def test_labels_are_matched_by_name() -> None:
    examples = (Example("a", 0, (1.0, 0.0)), Example("b", 1, (0.0, 1.0)))
    dataset = Dataset(("bad", "good"), examples)
    assert _targets(dataset, ("good", "meh", "bad")).tolist() == [2, 0]


def test_an_altered_artifact_is_not_judged(
    served: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (served / "model.onnx.data").open("ab") as weights:
        weights.write(b"\0")
    assert evaluate(served, checkpoint, write_csv(tmp_path / "data.csv"), "--all") == 1
    assert "model.onnx.data has" in capsys.readouterr().err
