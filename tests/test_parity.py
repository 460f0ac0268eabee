"""The same texts through both adapters, byte for byte, and through `core` itself.

With CLASSIFIER_TEST_DATA=FILE.csv (a column `text`) the texts are 200 real ones, else made up.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
from collections.abc import Sequence

import pytest

from core.classifier import Classifier
from tests.adapters import Call, CloudRun, Lambda

COUNT = 200
PIECES = (
    "have a lovely day", "see you @friend", "RT @someone: look", "https://example.org/a?b=c&d",
    "&amp; then", "&#128512;", "😀👍🏽", "ça va très bien", "naïve café", "日本語の文", "שלום",
    "!!!", "so   many\tspaces\n", "WHY SHOUT", "100%", "don't", "#hashtag", "x" * 130, "\u200b",
    "…", "“quotes”", "a\u0301", "[MASK]", "\x07",
)  # fmt: skip


def made_up(count: int) -> list[str]:
    generator = random.Random(4)
    return [" ".join(generator.choices(PIECES, k=generator.randint(1, 40))) for _ in range(count)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    path = os.environ.get("CLASSIFIER_TEST_DATA")
    if not path:
        return made_up(COUNT)
    with open(path, encoding="utf-8", newline="") as stream:
        real = [row["text"] for row in csv.DictReader(stream)]
    return random.Random(4).sample(real, COUNT)


def bodies(adapter: CloudRun | Lambda, texts: Sequence[str]) -> list[bytes]:
    calls = [Call("POST", "/predict", json.dumps({"text": text}).encode()) for text in texts]
    answers = [adapter.send(call) for call in calls]
    assert {answer.status for answer in answers} == {200}
    return [re.sub(rb'"inference_time_ms":[0-9.e-]+,', b"", answer.body) for answer in answers]


def test_both_adapters_answer_with_the_same_bytes(
    texts: list[str], cloud_run_adapter: CloudRun, lambda_adapter: Lambda
) -> None:
    # No text is shown when this fails: real ones are offensive.
    differing = [
        i
        for i, (ours, theirs) in enumerate(
            zip(bodies(cloud_run_adapter, texts), bodies(lambda_adapter, texts), strict=True)
        )
        if ours != theirs
    ]
    assert differing == []


def test_the_adapters_answer_what_core_says(
    texts: list[str], cloud_run_adapter: CloudRun, classifier: Classifier
) -> None:
    for body, prediction in zip(
        bodies(cloud_run_adapter, texts), classifier.classify(texts), strict=True
    ):
        answer = json.loads(body)
        assert answer["predicted_label"] == prediction.predicted_label
        assert answer["all_scores"] == pytest.approx(prediction.all_scores, abs=1e-6)


def test_a_batch_answers_what_singles_do(texts: list[str], lambda_adapter: Lambda) -> None:
    call = Call("POST", "/predict/batch", json.dumps({"texts": texts}).encode())
    batch = lambda_adapter.send(call).json()["predictions"]
    for prediction, body in zip(batch, bodies(lambda_adapter, texts), strict=True):
        single = json.loads(body)
        assert prediction["all_scores"] == pytest.approx(single["all_scores"], abs=1e-4)
        assert prediction["token_count"] == single["token_count"]
