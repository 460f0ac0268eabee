"""The model card for people, made from `model.json` and the notes that only a person can write.

May import: `core.artifact`.
"""

from __future__ import annotations

from core.artifact import ModelCard


def render_card(card: ModelCard, notes: str) -> str:
    """Markdown: what the model is, its figures, then `notes` (intended use, limits)."""
    lines = [f"# {card.name} {card.version}", "", *_facts(card), "", *_figures(card), ""]
    return "\n".join(lines) + "\n" + notes


def _facts(card: ModelCard) -> list[str]:
    facts = [
        f"- task: {card.task.replace('_', ' ')}, labels: {', '.join(card.labels)}",
        f"- reads at most {card.max_tokens} tokens; logits are divided by {card.temperature:.3f}",
    ]
    if card.decode_html_entities:
        facts.append("- HTML entities in a text are decoded before it is read")
    if card.base_model:
        facts.append(f"- base model: {card.base_model.name} ({card.base_model.licence})")
    return facts + [f"- data: {source.name} ({source.licence})" for source in card.data]


def _figures(card: ModelCard) -> list[str]:
    metrics = card.metrics
    if not metrics:
        return ["Not evaluated yet."]
    rows = [
        ("texts in the validation split", f"{metrics['texts']:,.0f}"),
        ("accuracy", f"{metrics['accuracy']:.3f}"),
        ("macro-F1", f"{metrics['macro_f1']:.3f}"),
        ("weighted-F1", f"{metrics['weighted_f1']:.3f}"),
        ("expected calibration error, 15 bins", f"{metrics['expected_calibration_error']:.3f}"),
        ("label agreement with fp32 in transformers", f"{metrics['fp32_label_agreement']:.2%}"),
        ("mean difference of probabilities from it", f"{metrics['fp32_mean_difference']:.4f}"),
    ]
    per_label = [
        f"| {label} | {metrics[f'precision_{label}']:.3f} | {metrics[f'recall_{label}']:.3f} |"
        for label in card.labels
    ]
    return [
        "| as served, in 8 bits | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "| label | precision | recall |",
        "| --- | --- | --- |",
        *per_label,
    ]
