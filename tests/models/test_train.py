"""Training learns, goes on where it was killed, and its parts do what their formulas say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.data import DataError, read_dataset, split
from models.train import (
    BATCHES_PER_POOL,
    SNAPSHOT,
    Recipe,
    _plan,
    _rate,
    batches,
    fit_temperature,
    main,
    predict_logits,
    train,
    weighted_loss,
)
from tests.models.conftest import LABELS, UNHURRIED, write_csv

REPOSITORY = Path(__file__).parents[2]
RECIPE = Recipe(epochs=6, batch_size=8, learning_rate=3e-3, max_tokens=16)

# python -c DRIVER (every) (kill) ARGUMENTS: a snapshot each `every` steps; the process is killed
# when it is about to put its `kill`th snapshot in the place of the one before.
DRIVER = """
import os, signal, sys
import models.train as train

every, kill = int(sys.argv[1]), int(sys.argv[2])
train.SNAPSHOT_EVERY_STEPS = every
snapshots = 0

def watch(event, arguments):
    global snapshots
    if event == "os.rename" and str(arguments[1]).endswith(train.SNAPSHOT):
        snapshots += 1
        if snapshots == kill:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
train.main(sys.argv[3:])
"""


def drive(
    data: Path, base: Path, output: Path, every: int, kill: int
) -> subprocess.CompletedProcess[str]:
    recipe = ["--epochs", "2", "--batch-size", "8", "--max-tokens", "16", "--seed", "4"]
    paths = ["--data", str(data), "--base", str(base), "--output", str(output)]
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(every), str(kill), *paths, *recipe],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", each=60)


@pytest.fixture(scope="module")
def killed(data: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that was killed after its second snapshot; not to be altered."""
    output = tmp_path_factory.mktemp("killed")
    done = drive(data, encoder, output, every=4, kill=3)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return output


def test_separable_texts_are_learnt_from_end_to_end(
    data: Path, encoder: Path, tmp_path: Path
) -> None:
    train(data, encoder, "tiny", tmp_path, RECIPE)
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["validation_accuracy"] == 1.0
    assert (summary["labels"], summary["base"]) == (list(LABELS), "tiny")
    assert summary["training_texts"] + summary["validation_texts"] == 120
    assert Recipe(**summary["recipe"]) == RECIPE
    assert 0.25 <= summary["temperature"] <= 8
    assert not list(tmp_path.glob("*.p*t*"))  # neither a snapshot nor a partial file is left

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    logits = predict_logits(
        model, tokenizer, ["the soup is tasty x y z", "the soup is rainy x y z"], RECIPE
    )
    assert [model.config.id2label[i] for i in logits.argmax(axis=1)] == ["nice", "dull"]


def test_a_killed_run_leaves_a_snapshot_and_no_checkpoint(killed: Path) -> None:
    names = {path.name for path in killed.iterdir()}
    assert SNAPSHOT in names
    assert not names & {"model.safetensors", "training.json", "config.json"}


def test_the_rate_warms_up_to_its_peak_and_decays_to_nearly_nothing() -> None:
    rates = [_rate(step, 40) for step in range(40)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[5:] == pytest.approx([(40 - step) / 36 for step in range(5, 40)])


def test_a_snapshot_holds_the_rate_of_its_step(killed: Path, data: Path) -> None:
    training, _ = split(read_dataset(data), 0.1)
    total = 2 * -(-len(training.examples) // 8)
    state = torch.load(killed / SNAPSHOT, weights_only=True)
    assert state["progress"]["step"] == 8
    assert state["schedule"]["_last_lr"] == pytest.approx([1e-4 * _rate(8, total)])


def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    killed: Path, data: Path, encoder: Path, tmp_path: Path
) -> None:
    resumed, undisturbed = shutil.copytree(killed, tmp_path / "resumed"), tmp_path / "undisturbed"
    again = drive(data, encoder, resumed, every=100, kill=-1)
    whole = drive(data, encoder, undisturbed, every=100, kill=-1)
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr + whole.stderr
    assert "going on from step 8 of" in again.stdout
    assert "going on" not in whole.stdout
    for name in ("model.safetensors", "training.json"):
        assert (resumed / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not (resumed / SNAPSHOT).exists()


@pytest.mark.parametrize("change", ["recipe", "data", "config", "weights"])
def test_a_snapshot_of_another_run_is_refused(
    killed: Path, data: Path, encoder: Path, tmp_path: Path, change: str
) -> None:
    output = shutil.copytree(killed, tmp_path / "output")
    recipe = Recipe(epochs=2, batch_size=8, max_tokens=16, seed=5 if change == "recipe" else 4)
    if change == "data":
        data = write_csv(tmp_path / "data.csv", each=61)
    if change in ("config", "weights"):
        encoder = shutil.copytree(encoder, tmp_path / "base")
    if change == "config":
        (encoder / "config.json").write_text((encoder / "config.json").read_text() + "\n")
    if change == "weights":
        path = encoder / "model.safetensors"
        save_file({name: 2 * w for name, w in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(ValueError, match="snapshot of a run with other data, base or settings"):
        train(data, encoder, "tiny", output, recipe)
    assert (output / SNAPSHOT).read_bytes() == (killed / SNAPSHOT).read_bytes()


@pytest.mark.parametrize("label", LABELS)
def test_a_heavier_label_wins_where_the_texts_tell_nothing(
    encoder: Path, tmp_path: Path, label: str
) -> None:
    texts = [f"unknown{i}a unknown{i}b unknown{i}c,{LABELS[i % 2]}" for i in range(60)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *texts]))
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=3e-3, class_weights={label: 20.0})
    train(tmp_path / "data.csv", encoder, "tiny", tmp_path / "output", recipe)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "output")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "output")
    logits = predict_logits(model, tokenizer, ["unknown unknown unknown"], recipe)
    assert LABELS[logits[0].argmax()] == label


def test_a_class_weight_of_no_label_is_refused(data: Path, encoder: Path, tmp_path: Path) -> None:
    recipe = Recipe(class_weights={"nice": 2.0, "salty": 1.0})
    with pytest.raises(ValueError, match=r"names no label of the data: \['salty'\]"):
        train(data, encoder, "tiny", tmp_path / "output", recipe)
    assert not (tmp_path / "output").exists()


def test_unusable_data_ends_with_a_line_that_says_why(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\nsoup,nice\n")
    arguments = ["--base", str(encoder), "--output", str(tmp_path / "output")]
    with pytest.raises(SystemExit, match=r"^error: .*two labels"):
        main(["--data", str(tmp_path / "data.csv"), *arguments])


@pytest.mark.parametrize("fraction", [1e-9, 1.0], ids=["no validation", "no training"])
def test_data_without_a_text_on_one_side_is_refused_before_training(
    encoder: Path, tmp_path: Path, fraction: float
) -> None:
    (tmp_path / "data.csv").write_text("text,label\nsoup,nice\ntea,dull\n")
    recipe = Recipe(epochs=1, validation_fraction=fraction)
    with pytest.raises(DataError, match="validation"):
        train(tmp_path / "data.csv", encoder, "tiny", tmp_path / "output", recipe)


def sampled(logits: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """A target for each row, drawn with its softmax: Gumbel's trick."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return np.asarray((logits + noise).argmax(axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_known_temperature_is_recovered(temperature: float, offset: float) -> None:
    calibrated = np.random.default_rng(1).normal(scale=2.0, size=(20_000, 3))
    logits = (calibrated * temperature + offset).astype(np.float32)
    fitted = fit_temperature(logits, sampled(calibrated, seed=2))
    assert fitted == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize(("right", "limit"), [(True, 0.25), (False, 8.0)])
def test_a_temperature_without_a_best_is_the_end_of_its_range(right: bool, limit: float) -> None:
    logits = np.array([[1.0, -1.0], [-1.0, 1.0]], dtype=np.float32)
    targets = np.array([0, 1] if right else [1, 0])
    assert fit_temperature(logits, targets) == pytest.approx(limit)


@pytest.mark.parametrize("class_weights", [[1.0, 1.0, 1.0], [1.5, 1.0, 0.25]])
def test_the_loss_of_one_hot_targets_is_torchs_weighted_cross_entropy(
    class_weights: list[float],
) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(32, 3, generator=generator) * 4
    labels = torch.randint(0, 3, (32,), generator=generator)
    weight = torch.tensor(class_weights)
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    expected = torch.nn.CrossEntropyLoss(weight=weight)(logits, labels)
    torch.testing.assert_close(weighted_loss(logits, one_hot, weight[labels]), expected)


def test_the_loss_of_soft_targets_is_the_one_worked_out_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]])  # probabilities 1/2 1/2, 3/4 1/4
    targets = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    losses = [np.log(2), -0.5 * np.log(3 / 4) - 0.5 * np.log(1 / 4)]
    expected = (1.0 * losses[0] + 3.0 * losses[1]) / 4
    loss = weighted_loss(logits, targets, torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx(expected)


@UNHURRIED
@given(
    lengths=st.lists(st.integers(1, 60), max_size=400),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 10_000),
)
def test_batches_hold_every_index_once(lengths: list[int], batch_size: int, seed: int) -> None:
    planned = batches(lengths, batch_size, seed)
    assert sorted(i for batch in planned for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= batch_size for batch in planned)
    assert len(planned) == -(-len(lengths) // batch_size)
    assert batches(lengths, batch_size, seed) == planned


def test_every_epoch_has_all_texts_in_an_order_of_its_own() -> None:
    plan = list(_plan([1 + i % 10 for i in range(40)], Recipe(epochs=2, batch_size=4)))
    first, second = plan[:10], plan[10:]
    for epoch in (first, second):
        assert sorted(i for batch in epoch for i in batch) == list(range(40))
    assert first != second


def test_batches_are_of_like_length_and_in_another_order_for_another_seed() -> None:
    lengths = [1 + i % 10 for i in range(4 * BATCHES_PER_POOL)]
    planned = batches(lengths, 4, seed=1)
    assert all(len({lengths[i] for i in batch}) == 1 for batch in planned)
    assert [lengths[batch[0]] for batch in planned] != sorted(lengths[b[0]] for b in planned)
    assert batches(lengths, 4, seed=2) != planned
