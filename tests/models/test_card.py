"""The model card says what the model is, its figures if there are any, and the notes."""

from __future__ import annotations

import msgspec
import pytest

from core.artifact import ModelCard, Source
from models.card import render_card

CARD = ModelCard("soup-critic", "2.1.0", "single_label", ("bland", "tasty"), 128, 1.25)
METRICS = {
    "texts": 2158,
    "accuracy": 0.9078,
    "macro_f1": 0.7711,
    "weighted_f1": 0.9062,
    "expected_calibration_error": 0.0254,
    "fp32_label_agreement": 0.9936,
    "fp32_mean_difference": 0.00361,
    "precision_bland": 0.5041,
    "recall_bland": 0.4519,
    "precision_tasty": 0.9387,
    "recall_tasty": 0.9512,
}
NOTES = "## Use\n\nFor soups only.\n"


def test_a_card_without_metrics_says_so() -> None:
    assert "\nNot evaluated yet.\n" in render_card(CARD, NOTES)
    assert "accuracy" not in render_card(CARD, NOTES)


def test_a_card_with_metrics_has_each_figure() -> None:
    card = render_card(msgspec.structs.replace(CARD, metrics=METRICS), NOTES)
    assert "Not evaluated" not in card
    for figure in ("2,158", "0.908", "0.771", "0.906", "0.025", "99.36%", "0.0036"):
        assert f"| {figure} |" in card
    assert "| bland | 0.504 | 0.452 |\n| tasty | 0.939 | 0.951 |\n" in card


@pytest.mark.parametrize("metrics", [{}, METRICS])
def test_facts_come_first_and_the_notes_last(metrics: dict[str, float]) -> None:
    card = render_card(msgspec.structs.replace(CARD, metrics=metrics), NOTES)
    assert card.startswith("# soup-critic 2.1.0\n\n")
    assert "single label, labels: bland, tasty" in card
    assert "at most 128 tokens; logits are divided by 1.250" in card
    assert card.endswith("\n\n" + NOTES)


def test_entities_base_and_data_are_told_where_there_are_any() -> None:
    full = msgspec.structs.replace(
        CARD,
        decode_html_entities=True,
        base_model=Source("tiny", "Apache-2.0"),
        data=(Source("soups", "MIT"), Source("salads", "CC0-1.0")),
    )
    told = ("HTML entities", "base model: tiny (Apache-2.0)", "soups (MIT)", "salads (CC0-1.0)")
    assert [words in render_card(full, NOTES) for words in told] == [True] * 4
    assert [words in render_card(CARD, NOTES) for words in told] == [False] * 4
