"""Probabilities, their order, what is refused; and the default model from many threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import exp, inf, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from core.classifier import PROBE_TEXT, Classifier, sigmoid, softmax
from core.errors import (
    BlankText,
    InferenceFailed,
    InvalidOption,
    ModelUnavailable,
    TextTooLong,
    UnencodableText,
)
from core.types import Prediction
from tests.core.conftest import CARD, LABELS, FakeEngine, fixed
from tests.fakes import WordLengths

TEXTS = [
    "have a lovely day",
    "what a long queue that was",
    "soup!",
    "day " * 400,
    "caf\u00e9 😂 &amp;",
]
PROBE_IDS = [len(word) for word in PROBE_TEXT.split()]


def with_logits(*logits: float, **card: Any) -> Classifier:
    return Classifier(msgspec.structs.replace(CARD, **card), WordLengths(), fixed(*logits))


@pytest.mark.parametrize(
    ("logits", "probabilities"),
    [
        ([0, 0, 0], [1 / 3] * 3),
        ([1e4, 0, -1e4], [1, 0, 0]),
        ([-1e4, -1e4, -1e4], [1 / 3] * 3),
        ([1e30, 1e30, -1e30], [0.5, 0.5, 0]),
        ([-1e30, 0, -1e30], [0, 1, 0]),
        ([1e4, 1e4 - 1, -1e30], [1 / (1 + exp(-1)), exp(-1) / (1 + exp(-1)), 0]),
        ([-5, -1e4, -1e4], [1, 0, 0]),
    ],
)
def test_softmax_of_extremes_is_exact(logits: list[float], probabilities: list[float]) -> None:
    np.testing.assert_allclose(softmax(np.array(logits)), probabilities, rtol=1e-12, atol=0)


def test_softmax_is_taken_along_the_last_axis() -> None:
    rows = softmax(np.array([[0.0, 1e30], [2.0, 2.0]]))
    assert rows.tolist() == [[0, 1], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("logit", "probability"),
    [
        (0, 0.5),
        (1e4, 1),
        (-1e4, 0),
        (1e30, 1),
        (-1e30, 0),
        (-700, exp(-700)),
        (2, 1 / (1 + exp(-2))),
    ],
)
def test_sigmoid_of_extremes_is_exact(logit: float, probability: float) -> None:
    assert sigmoid(np.array([logit, -logit])) == pytest.approx([probability, 1 - probability])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_divides_the_logits(temperature: float) -> None:
    logits = [2.0, 1.0, -1.0]
    prediction = with_logits(*logits, temperature=temperature).classify_one("soup")
    exponentials = [exp(logit / temperature) for logit in logits]
    expected = [value / sum(exponentials) for value in exponentials]
    assert [prediction.all_scores[label] for label in LABELS] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logits", "order"),
    [
        ([0, 0, 0], ["red", "green", "blue"]),
        ([0, 1, 1], ["green", "blue", "red"]),
        ([1, 0, 1], ["red", "blue", "green"]),
        ([-1e30, 1e30, 0], ["green", "red", "blue"]),
        ([1, 2, 3], ["blue", "green", "red"]),
    ],
)
def test_scores_fall_and_ties_keep_the_models_order(logits: list[float], order: list[str]) -> None:
    prediction = with_logits(*logits).classify_one("soup")
    assert list(prediction.all_scores) == order
    assert prediction.predicted_label == order[0]
    assert prediction.confidence == prediction.all_scores[order[0]]
    assert prediction.predicted_labels is None


def test_ties_keep_the_models_order_among_many_labels() -> None:
    labels = tuple(f"label {i}" for i in range(100))
    tied = with_logits(*[float(i % 3) for i in range(100)], labels=labels)
    expected = sorted(range(100), key=lambda i: (-(i % 3), i))
    assert list(tied.classify_one("soup").all_scores) == [labels[i] for i in expected]


@pytest.mark.parametrize(
    ("thresholds", "chosen"),
    [
        (None, ("blue", "red")),
        ((0.5, 0.5, 0.5), ("blue", "red")),
        ((0.51, 0.1, 0.5), ("blue", "green")),
        ((1.0, 1.0, 1.0), ()),
        ((0.0, 0.0, 0.0), ("blue", "red", "green")),
    ],
)
def test_labels_that_reach_their_threshold_are_chosen(
    thresholds: tuple[float, ...] | None, chosen: tuple[str, ...]
) -> None:
    multi_label = with_logits(0.0, -1.0, 3.0, task="multi_label", thresholds=thresholds)
    prediction = multi_label.classify_one("soup")
    assert prediction.predicted_label is None
    assert prediction.predicted_labels == chosen
    assert prediction.all_scores == pytest.approx(
        {"blue": 1 / (1 + exp(-3)), "red": 0.5, "green": 1 / (1 + exp(1))}
    )


@pytest.mark.parametrize(("logit", "chosen"), [(-1e-6, ()), (0.0, LABELS), (1e-6, LABELS)])
def test_without_thresholds_a_probability_of_a_half_is_needed(
    logit: float, chosen: tuple[str, ...]
) -> None:
    multi_label = with_logits(logit, logit, logit, task="multi_label")
    assert multi_label.classify_one("soup").predicted_labels == chosen


@pytest.mark.parametrize("logits", [[0.0], [0.0, 0.0], [0.0] * 4])
def test_a_head_that_does_not_fit_the_labels_is_refused(logits: list[float]) -> None:
    with pytest.raises(ModelUnavailable, match=rf"\(1, {len(logits)}\).* 3 labels"):
        with_logits(*logits)


def test_a_graph_that_cannot_run_the_probe_is_unfit() -> None:
    def answer(ids: list[int]) -> list[float]:
        raise InferenceFailed("no such id")

    with pytest.raises(ModelUnavailable):
        Classifier(CARD, WordLengths(), FakeEngine(answer))


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("logit", [nan, inf, -inf])
def test_logits_that_are_not_finite_are_a_failure(task: str, logit: float) -> None:
    broken = with_logits(0.0, logit, 1.0, task=task)
    with pytest.raises(InferenceFailed, match="not finite"):
        broken.classify(["soup"])


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["soup", " ", "\ud800"], BlankText),
        (["soup", "\ud800", " "], UnencodableText),
        (["soup", "day " * 400, " "], TextTooLong),
    ],
)
def test_classify_raises_the_first_error(
    classifier: Classifier, texts: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        classifier.classify(texts, truncate=False)


def test_classify_each_keeps_the_order_and_stops_at_nothing(classifier: Classifier) -> None:
    texts = ["have a lovely day", " ", "day " * 400, "\ud800", "soup!"]
    outcomes = classifier.classify_each(texts, truncate=False)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Prediction, BlankText, TextTooLong, UnencodableText, Prediction]
    assert [outcomes[0], outcomes[4]] == classifier.classify([texts[0], texts[4]])


def test_a_failing_engine_is_no_texts_own_error() -> None:
    def answer(ids: list[int]) -> list[float]:
        if ids != PROBE_IDS:
            raise InferenceFailed("failed")
        return [0.0, 0.0, 0.0]

    classifier = Classifier(CARD, WordLengths(), FakeEngine(answer))
    with pytest.raises(InferenceFailed):
        classifier.classify_each(["soup"])


def test_no_texts_have_no_predictions(classifier: Classifier) -> None:
    assert classifier.classify([]) == classifier.classify_each([]) == []


def test_tokens_are_counted_and_truncation_is_told(classifier: Classifier) -> None:
    short, long = classifier.classify(["have a lovely day", "day " * 400])
    assert (short.token_count, short.truncated) == (6, False)
    assert (long.token_count, long.truncated) == (classifier.card.max_tokens, True)


def test_entities_are_decoded_as_the_default_models_card_says(classifier: Classifier) -> None:
    assert classifier.card.decode_html_entities
    written, meant = classifier.classify(["salt &amp; pepper &#128514;", "salt & pepper 😂"])
    assert written == meant


def test_a_friendly_text_is_neither(classifier: Classifier) -> None:
    prediction = classifier.classify_one("have a lovely day")
    assert prediction.predicted_label == "neither"
    assert sum(prediction.all_scores.values()) == pytest.approx(1)


def scores(prediction: Prediction) -> list[float]:
    return [prediction.all_scores[label] for label in sorted(prediction.all_scores)]


def test_a_batch_equals_its_texts_one_at_a_time(classifier: Classifier) -> None:
    singles = [scores(classifier.classify([text])[0]) for text in TEXTS]
    for batch in (TEXTS, TEXTS[::-1]):
        together = [scores(prediction) for prediction in classifier.classify(batch)]
        expected = singles if batch is TEXTS else singles[::-1]
        np.testing.assert_allclose(together, expected, atol=1e-4)


@pytest.mark.parametrize("of", [Classifier.classify, Classifier.classify_each])
def test_sixteen_threads_equal_one(
    classifier: Classifier, of: Callable[[Classifier, list[str]], list[Prediction]]
) -> None:
    work = [[TEXTS[i % 3], TEXTS[4]] for i in range(48)]
    alone = [of(classifier, texts) for texts in work]
    with ThreadPoolExecutor(16) as pool:
        at_once = list(pool.map(lambda texts: of(classifier, texts), work))
    for together, single in zip(at_once, alone, strict=True):
        np.testing.assert_allclose(
            [scores(p) for p in together], [scores(p) for p in single], atol=1e-4
        )


@pytest.mark.parametrize("top_k", [None, 1, 3])
def test_top_k_within_the_labels_is_accepted_and_cuts_the_scores(top_k: int | None) -> None:
    classifier = with_logits(1.0, 3.0, 2.0)
    classifier.check_top_k(top_k)
    fields = classifier.classify_one("soup").fields(top_k)
    assert list(fields["all_scores"]) == ["green", "blue", "red"][:top_k]
    assert fields["predicted_label"] == "green"


@pytest.mark.parametrize("top_k", [0, -1, 4])
def test_top_k_beyond_the_labels_is_refused(top_k: int) -> None:
    with pytest.raises(InvalidOption, match="from 1 to 3"):
        with_logits(0.0, 0.0, 0.0).check_top_k(top_k)


def test_fields_name_the_chosen_labels_of_multi_label_models_only() -> None:
    single = with_logits(0.0, 1.0, 2.0).classify_one("soup").fields()
    multi = with_logits(0.0, 1.0, 2.0, task="multi_label").classify_one("soup").fields()
    assert "predicted_labels" not in single
    assert (multi["predicted_label"], multi["predicted_labels"]) == (None, ("blue", "green", "red"))


def test_a_loaded_model_says_what_it_is(default_model: Path) -> None:
    loaded = Classifier.load(default_model, threads=1, verify_weights=True)
    assert len(loaded.checksum) == 64
    assert set(loaded.load_ms) == {"artifact", "tokenizer", "engine"}
