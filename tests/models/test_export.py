"""An exported artifact answers as transformers does; what cannot become one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from core.artifact import Source, open_artifact
from core.classifier import Classifier
from core.types import Prediction
from models.export import ExportError, card_of, load_checkpoint, main
from tests.models.conftest import (
    EXPORT_WARNINGS,
    LABELS,
    MAX_POSITIONS,
    bert_config,
    save_classifier,
    save_tokenizer,
)

pytestmark = EXPORT_WARNINGS

TEXTS = ["the soup is tasty", "rainy day.", "lovely", "cold bland dreary soup", "tea " * 100, "?"]


def transformers_logits(directory: Path, text: str) -> Any:
    """Loaded anew, by transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(text, truncation=True, max_length=MAX_POSITIONS, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        return model(**inputs).logits[0].double()


def in_order(prediction: Prediction) -> list[float]:
    return [prediction.all_scores[label] for label in LABELS]


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may break."""
    return shutil.copytree(checkpoint, tmp_path / "source")


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_served_probabilities_are_close_to_transformers(
    tmp_path: Path, kind: str, problem: str
) -> None:
    source = save_classifier(tmp_path / "source", kind, problem_type=problem)
    assert main([str(source), str(tmp_path / "served")]) == 0
    served = Classifier.load(tmp_path / "served", threads=1, verify_weights=True)
    activation = torch.sigmoid if problem.startswith("multi") else torch.nn.Softmax(dim=0)
    expected = [activation(transformers_logits(source, text)).tolist() for text in TEXTS]
    probabilities = [in_order(prediction) for prediction in served.classify(TEXTS)]
    assert np.ptp(expected, axis=0).min() > 0.2  # or answers would be close whatever is served
    np.testing.assert_allclose(probabilities, expected, atol=0.05)
    assert served.card.task + "_classification" == problem


def test_the_card_says_what_the_checkpoint_and_the_command_line_say(artifact: Path) -> None:
    card = open_artifact(artifact, verify_weights=True).card
    assert (card.name, card.version, card.labels) == ("tiny", "1.0.0", LABELS)
    assert (card.max_tokens, card.temperature, card.decode_html_entities) == (64, 2.0, True)
    assert (card.base_model, card.data, card.metrics) == (Source("random", "MIT"), (), {})
    assert (artifact / "README.md").read_text() == "# tiny 1.0.0\n\nNot evaluated yet.\n"


def test_the_temperature_of_training_softens_what_is_served(
    artifact: Path, checkpoint: Path
) -> None:
    served = Classifier.load(artifact, threads=1)
    for text in TEXTS:
        expected = torch.softmax(transformers_logits(checkpoint, text) / 2.0, dim=0).tolist()
        assert in_order(served.classify_one(text)) == pytest.approx(expected, abs=0.05)


def test_all_files_are_listed_and_may_be_read_by_whoever_serves(artifact: Path) -> None:
    files = json.loads((artifact / "manifest.json").read_text())["files"]
    names = {path.name for path in artifact.iterdir()}
    assert set(files) | {"manifest.json"} == names
    modes = {path.name: oct(path.stat().st_mode & 0o444) for path in artifact.iterdir()}
    assert modes == dict.fromkeys(names, oct(0o444))


def test_the_weights_lie_beside_the_graph_in_eight_bits(artifact: Path, checkpoint: Path) -> None:
    parameters = sum(w.numel() for w in load_file(checkpoint / "model.safetensors").values())
    weights = (artifact / "model.onnx.data").stat().st_size
    assert 0.5 * parameters < weights < 2 * parameters


def test_padding_and_truncation_of_training_are_not_served(broken: Path, tmp_path: Path) -> None:
    document = json.loads((broken / "tokenizer.json").read_text())
    document["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (broken / "tokenizer.json").write_text(json.dumps(document))
    assert main([str(broken), str(tmp_path / "served")]) == 0
    served = json.loads((tmp_path / "served" / "tokenizer.json").read_text())
    assert served == document | {"truncation": None, "padding": None}


def test_an_old_artifact_is_replaced_whole(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "served"
    target.mkdir(parents=True)
    (target / "stale.txt").write_text("old")
    assert main([str(checkpoint), str(target), "--version", "2.0.0", "--max-tokens", "32"]) == 0
    card = open_artifact(target, verify_weights=True).card
    assert (card.version, card.max_tokens) == ("2.0.0", 32)
    assert not (target / "stale.txt").exists()
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_export_leaves_the_old_artifact(
    broken: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = shutil.copytree(artifact, tmp_path / "served")
    (broken / "model.safetensors").unlink()
    assert main([str(broken), str(target)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {broken} has no .safetensors weights")
    assert open_artifact(target, True).checksum == open_artifact(artifact, True).checksum


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_source_without_a_needed_file_is_refused(broken: Path, name: str) -> None:
    (broken / name).unlink()
    with pytest.raises(ExportError, match=rf"has no .*{name.partition('.')[2]}"):
        load_checkpoint(broken)


@pytest.mark.parametrize("model_type", ["roberta", "no_such_type"])
def test_a_model_of_another_type_is_refused_by_its_name(broken: Path, model_type: str) -> None:
    edit_config(broken, model_type=model_type)
    with pytest.raises(ExportError, match=model_type):
        load_checkpoint(broken)


def test_an_encoder_without_a_head_is_no_classifier(tmp_path: Path) -> None:
    BertModel(bert_config()).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ExportError, match="is no sequence classifier"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("factor", [1e6, float("nan")])
def test_a_graph_that_strays_from_transformers_is_refused(
    broken: Path, tmp_path: Path, factor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logits so large that sums in another order differ by more than the tolerance, or NaN."""
    weights = load_file(broken / "model.safetensors")
    weights["classifier.weight"] *= factor
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    (tmp_path / "parent").mkdir()
    assert main([str(broken), str(tmp_path / "parent" / "served")]) == 1
    assert "error: the graph strays from torch by " in capsys.readouterr().err
    assert list((tmp_path / "parent").iterdir()) == []


def test_attention_that_cannot_be_fused_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_classifier(tmp_path / "source", "bert", is_decoder=True)
    assert main([str(source), str(tmp_path / "served")]) == 1
    assert "only 0 of 2 attention layers could be fused" in capsys.readouterr().err
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize(("tokenizers_limit", "limit"), [(16, 16), (10**30, MAX_POSITIONS)])
def test_the_limit_is_the_lesser_of_the_models_and_its_tokenizers(
    broken: Path, tokenizers_limit: int, limit: int
) -> None:
    path = broken / "tokenizer_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"model_max_length": tokenizers_limit})
    )
    card = card_of(load_checkpoint(broken), "tiny", "1", None, None, [])
    assert card.max_tokens == limit


def test_the_card_names_every_source_of_data(checkpoint: Path) -> None:
    data = [Source("soups", "MIT"), Source("salads", "CC0-1.0")]
    card = card_of(load_checkpoint(checkpoint), "tiny", "1", None, None, data)
    assert card.data == tuple(data)


@pytest.mark.parametrize("max_tokens", [-1, 0, 2, MAX_POSITIONS + 1])
def test_max_tokens_beyond_the_models_limit_are_refused(checkpoint: Path, max_tokens: int) -> None:
    loaded = load_checkpoint(checkpoint)
    with pytest.raises(ExportError, match="from 3 to 64"):
        card_of(loaded, "tiny", "1", max_tokens, None, [])


@pytest.mark.parametrize("max_tokens", [3, MAX_POSITIONS])
def test_max_tokens_within_the_models_limit_are_kept(checkpoint: Path, max_tokens: int) -> None:
    card = card_of(load_checkpoint(checkpoint), "tiny", "1", max_tokens, None, [])
    assert card.max_tokens == max_tokens


def test_a_model_that_reads_few_tokens_is_exported_too(tmp_path: Path) -> None:
    source = save_classifier(tmp_path / "source", "bert", max_position_embeddings=32)
    assert main([str(source), str(tmp_path / "served")]) == 0
    served = Classifier.load(tmp_path / "served", threads=1)
    assert served.classify_one("tea " * 100).token_count == 32


@pytest.mark.parametrize("source", ["name", "=MIT", "name=", ""])
def test_a_source_without_its_licence_is_wrong_usage(
    tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), str(tmp_path / "served"), "--data", source])
    assert caught.value.code == 2
    assert "is not NAME=LICENCE" in capsys.readouterr().err
