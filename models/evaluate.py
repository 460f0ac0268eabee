"""Judges an artifact as it is served, and holds it against transformers in fp32.

    python -m models.evaluate models/default --checkpoint build/checkpoint --data FILE.csv

Prints the figures, draws a confusion matrix and a reliability diagram as PNG, and with
`--write-card NOTES.md` puts the figures into the artifact's `model.json` and model card. The texts
are the validation split that `models.train` left out (`--all` judges every text of the file: for a
test set).

May import: matplotlib, transformers through `models.export`, `core`, `models.data`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from core.artifact import Artifact, open_artifact
from core.classifier import Classifier, softmax
from core.cpu import available_cpus
from core.errors import ClassifierError
from models.card import render_card
from models.data import DataError, Dataset, read_dataset, split
from models.export import Checkpoint, ExportError, load_checkpoint, write_card
from models.train import Recipe

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Quality:
    """How well probabilities fit targets; every array is in the labels' order.

    `confusion` (labels, labels) counts texts: a row for each true label, a column for each
    predicted one. Precision of a label that is never predicted, and recall of one that never
    occurs, count as 0.
    """

    confusion: NDArray[np.int64]
    expected_calibration_error: float

    @property
    def accuracy(self) -> float:
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def precision(self) -> NDArray[np.float64]:
        return _ratio(self.confusion.diagonal(), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        return _ratio(self.confusion.diagonal(), self.confusion.sum(axis=1))

    @property
    def f1(self) -> NDArray[np.float64]:
        return _ratio(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def macro_f1(self) -> float:
        return float(self.f1.mean())

    @property
    def weighted_f1(self) -> float:
        return float(np.average(self.f1, weights=self.confusion.sum(axis=1)))


@dataclass(frozen=True)
class Fidelity:
    """The served probabilities against transformers' fp32 ones, on the same texts."""

    label_agreement: float
    mean_difference: float
    max_difference: float


def quality(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> Quality:
    """`probabilities` (texts, labels), `targets` (texts,) label indices."""
    labels = probabilities.shape[1]
    cells = targets * labels + probabilities.argmax(axis=1)
    confusion = np.bincount(cells, minlength=labels * labels).reshape(labels, labels)
    return Quality(confusion, _calibration_error(probabilities, targets))


def fidelity(served: NDArray[np.float64], reference: NDArray[np.float64]) -> Fidelity:
    """Both (texts, labels)."""
    difference = np.abs(served - reference)
    agreement = served.argmax(axis=1) == reference.argmax(axis=1)
    return Fidelity(float(agreement.mean()), float(difference.mean()), float(difference.max()))


def reliability(
    probabilities: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and count of texts in each bin of confidence, each (bins,).

    Bins of equal width over [0, 1], as in Guo et al. 2017; empty bins hold zeros.
    """
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    mean_confidence = _ratio(np.bincount(bins, confidence, CALIBRATION_BINS), count)
    accuracy = _ratio(np.bincount(bins, correct, CALIBRATION_BINS), count)
    return mean_confidence, accuracy, count


def _calibration_error(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Expected calibration error: |accuracy - confidence| of each bin, weighted by its texts."""
    confidence, accuracy, count = reliability(probabilities, targets)
    return float(np.average(np.abs(accuracy - confidence), weights=count))


def _ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> NDArray[np.float64]:
    """Elementwise quotient, 0 where the denominator is 0."""
    result = np.zeros(numerator.shape, dtype=np.float64)
    np.divide(numerator, denominator, out=result, where=denominator != 0, casting="unsafe")
    return result


def served_probabilities(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float64]:
    """(texts, labels) in the labels' order, through the same code that answers requests."""
    labels = classifier.card.labels
    rows = []
    for text in tqdm(texts, desc="as served"):
        scores = classifier.classify_one(text).all_scores
        rows.append([scores[label] for label in labels])
    return np.array(rows)


def reference_probabilities(
    checkpoint: Checkpoint, texts: Sequence[str], max_tokens: int, temperature: float
) -> NDArray[np.float64]:
    """(texts, labels) by transformers' tokenizer and model in fp32, with the served temperature."""
    rows = []
    for text in tqdm(texts, desc="transformers fp32"):
        encoded = checkpoint.tokenizer(text, truncation=True, max_length=max_tokens)
        rows.append(checkpoint.logits(np.array([encoded["input_ids"]]))[0])
    return softmax(np.stack(rows).astype(np.float64) / temperature)


def evaluate(
    artifact: Artifact, checkpoint: Checkpoint, dataset: Dataset, plots: Path
) -> dict[str, float]:
    """Measures, prints and draws; returns the figures by name as the card keeps them."""
    card = artifact.card
    if card.task != "single_label":
        raise DataError("only single-label models can be evaluated against one label a text")
    targets = _targets(dataset, card.labels)
    texts = [example.text for example in dataset.examples]
    classifier = Classifier.load(artifact.directory, available_cpus(), verify_weights=True)
    served = served_probabilities(classifier, texts)
    reference = reference_probabilities(checkpoint, texts, card.max_tokens, card.temperature)
    judged, kept = quality(served, targets), fidelity(served, reference)
    plots.mkdir(parents=True, exist_ok=True)
    draw_confusion(judged.confusion, card.labels, plots / "confusion.png")
    draw_reliability(served, targets, plots / "reliability.png")
    return _figures(judged, kept, quality(reference, targets), card.labels, len(texts))


def _targets(dataset: Dataset, labels: Sequence[str]) -> NDArray[np.int64]:
    """The texts' labels as the model's indices (texts,); the two may order them as they like."""
    unknown = sorted(set(dataset.labels) - set(labels))
    if unknown:
        raise DataError(f"the data has labels that the model lacks: {unknown}; it has {labels}")
    index = [labels.index(name) for name in dataset.labels]
    return np.array([index[example.label] for example in dataset.examples])


def _figures(
    judged: Quality, kept: Fidelity, reference: Quality, labels: Sequence[str], texts: int
) -> dict[str, float]:
    figures = {
        "texts": texts,
        "accuracy": judged.accuracy,
        "macro_f1": judged.macro_f1,
        "weighted_f1": judged.weighted_f1,
        "expected_calibration_error": judged.expected_calibration_error,
        "fp32_label_agreement": kept.label_agreement,
        "fp32_mean_difference": kept.mean_difference,
        "fp32_max_difference": kept.max_difference,
        "fp32_accuracy": reference.accuracy,
        "fp32_macro_f1": reference.macro_f1,
    }
    for i, label in enumerate(labels):
        figures[f"precision_{label}"] = float(judged.precision[i])
        figures[f"recall_{label}"] = float(judged.recall[i])
    return {name: round(value, 4) for name, value in figures.items()}


def draw_confusion(confusion: NDArray[np.int64], labels: Sequence[str], path: Path) -> None:
    """Rows are true labels; colours are shares of a row, numbers are texts."""
    figure, axes = _figure()
    shares = _ratio(confusion, confusion.sum(axis=1, keepdims=True) + np.zeros_like(confusion))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for row in ticks:
        for column in ticks:
            colour = "white" if shares[row, column] > 0.5 else "black"
            note = f"{confusion[row, column]}\n{shares[row, column]:.0%}"
            axes.text(column, row, note, ha="center", va="center", color=colour)
    figure.savefig(path)


def draw_reliability(
    probabilities: NDArray[np.float64], targets: NDArray[np.int64], path: Path
) -> None:
    """Accuracy against confidence; on the diagonal a model is as right as it says."""
    confidence, accuracy, count = reliability(probabilities, targets)
    used = count > 0
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="calibrated")
    sizes = 20 + 400 * count[used] / count.max()
    axes.scatter(confidence[used], accuracy[used], s=sizes, label="bins, sized by texts")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.legend(loc="upper left")
    figure.savefig(path)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 4.5), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True, help="its fp32 original")
    parser.add_argument("--data", type=Path, required=True, help="CSV with text and label columns")
    parser.add_argument("--all", action="store_true", help="judge on every text of the file")
    parser.add_argument("--plots", type=Path, default=Path("build/evaluation"))
    parser.add_argument(
        "--write-card",
        type=Path,
        metavar="NOTES.md",
        help="put the figures into model.json and the model card, with these notes on its use",
    )
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (DataError, ExportError, ClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    artifact = open_artifact(options.artifact, verify_weights=True)
    checkpoint = load_checkpoint(options.checkpoint)
    dataset = read_dataset(options.data)
    if not options.all:
        recipe = Recipe(**checkpoint.training.get("recipe", {}))
        _, dataset = split(dataset, recipe.validation_fraction, recipe.fold)
    figures = evaluate(artifact, checkpoint, dataset, options.plots)
    print(json.dumps(figures, indent=2))
    if options.write_card:
        card = msgspec.structs.replace(artifact.card, metrics=figures)
        notes = options.write_card.read_text(encoding="utf-8")
        write_card(artifact.directory, card, render_card(card, notes))


if __name__ == "__main__":
    sys.exit(main())
