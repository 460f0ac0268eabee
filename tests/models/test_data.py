"""Labelled texts are read alike in either spelling; near-duplicates never sit on both sides."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data import (
    DAVIDSON_LABELS,
    DataError,
    Dataset,
    Example,
    near_duplicate_groups,
    read_dataset,
    split,
)
from tests.models.conftest import UNHURRIED

NUMBERED = """,count,hate_speech,offensive_language,neither,class,tweet
0,3,0,0,3,2,"soup, salt &amp; pepper"
1,3,0,2,1,1,bland soup
2,4,3,1,0,0,"cold
soup"
"""
NAMED = """label,text,neither,hate_speech,offensive_language
neither,"soup, salt & pepper",3,0,0
offensive_language,bland soup,1,0,2
hate_speech,"cold
soup",0,3,1
"""


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def dataset_of(texts: Sequence[str]) -> Dataset:
    return Dataset(("a", "b"), tuple(Example(text, 0, (1.0, 0.0)) for text in texts))


@pytest.mark.parametrize("content", [NUMBERED, NAMED, NAMED.replace("\n", "\r\n")])
def test_both_spellings_are_read_alike(tmp_path: Path, content: str) -> None:
    dataset = read_dataset(write(tmp_path / "data.csv", content.replace("cold\r\n", "cold\n")))
    assert dataset.labels == DAVIDSON_LABELS
    assert dataset.examples == (
        Example("soup, salt & pepper", 2, (0, 0, 1)),
        Example("bland soup", 1, (0, 2 / 3, 1 / 3)),
        Example("cold\nsoup", 0, (0.75, 0.25, 0)),
    )


def test_without_votes_the_label_has_them_all(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "data.csv", "text,label\nx,neither\ny,hate_speech\n"))
    assert dataset.labels == DAVIDSON_LABELS
    assert [example.votes for example in dataset.examples] == [(0, 0, 1), (1, 0, 0)]


def test_other_labels_are_sorted_by_name(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "data.csv", "tweet,label\nx,nice\ny,dull\nz,nice\n"))
    assert dataset.labels == ("dull", "nice")
    assert [(e.text, e.label) for e in dataset.examples] == [("x", 1), ("y", 0), ("z", 1)]


@pytest.mark.parametrize("labels", ["01", "0123"])
def test_numbers_in_a_label_column_are_names_of_their_own(tmp_path: Path, labels: str) -> None:
    rows = "".join(f"text {label},{label}\n" for label in labels)
    dataset = read_dataset(write(tmp_path / "data.csv", "text,label\n" + rows))
    assert dataset.labels == tuple(labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column text or tweet"),
        ("body,label\nx,a\n", "no column text or tweet; it has body, label"),
        ("text,kind\nx,a\n", "no column label or class"),
        ("text,label\n", "needs two labels or more"),
        ("text,label\nx,a\ny,a\n", "needs two labels or more"),
        ("text,label\nx,a\n ,b\n", "line 3: a text and a label are needed"),
        ("text,label\nx,a\ny,\n", "line 3: a text and a label are needed"),
        ("text,label\nx,a\ny\n", "line 3: a text and a label are needed"),
        ("text,label,a,b\nx,a,1,0\ny,b,x,1\n", "line 3: the votes are no numbers"),
        ("text,label,a,b\nx,a,1,0\ny,b,1\n", "line 3: the votes are no numbers"),
        ("text,label,a,b\nx,a,0,0\ny,b,0,1\n", "line 2: the votes must be 0 or more"),
        ("text,label,a,b\nx,a,2,-1\ny,b,0,1\n", "line 2: the votes must be 0 or more"),
        ("text,label,a,b\nx,a,nan,1\ny,b,0,1\n", "line 2: the votes must be 0 or more"),
        ("text,label,a,b\nx,a,inf,1\ny,b,0,1\n", "line 2: the votes must be 0 or more"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = write(tmp_path / "data.csv", content)
    with pytest.raises(DataError) as caught:
        read_dataset(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff soup", b"x" * 1_200_000], ids=["no UTF-8", "too long"])
def test_bytes_that_are_no_csv_text_are_a_data_error(tmp_path: Path, text: bytes) -> None:
    path = write(tmp_path / "data.csv", b"text,label\nx,a\n" + text + b",b\n")
    with pytest.raises(DataError, match=r"data\.csv"):
        read_dataset(path)


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path / "data.csv", "\ufefftext,label\nx,a\ny,b\n"))
    assert dataset.labels == ("a", "b")


@pytest.mark.parametrize(
    ("a", "b", "together"),
    [
        ("RT @me: one two three", "one TWO three https://t.co/x", True),
        ("one two three four five six seven", "one two three four five six seven 8 9 10", True),
        ("one two three four five six seven", "one two three four five six seven 8 9 10 11", False),
        ("a b c d e f g h i", "a b c d e f g h i j k l m", False),  # 9 of 13, just below 0.7
        ("one two three", "one two four", False),
        ("RT @me: one two", "one two", True),
        ("one two @me", "@you one two", True),
        ("art deco", "a deco", False),
        ("@me", "@you", False),
        ("😂", "😂", True),
        ("art", "rt art", True),
    ],
)
def test_texts_with_nearly_the_same_words_are_grouped(a: str, b: str, together: bool) -> None:
    assert near_duplicate_groups([a, b]) == ([[0, 1]] if together else [[0], [1]])


def connected(texts: Sequence[str]) -> set[frozenset[int]]:
    """Every pair compared, 10 |a & b| >= 7 |a | b|, and what hangs together by such pairs."""
    sets = [set(text.split()) for text in texts]
    groups = {i: frozenset([i]) for i in range(len(texts))}
    for i, j in combinations(range(len(texts)), 2):
        if 10 * len(sets[i] & sets[j]) >= 7 * len(sets[i] | sets[j]):
            joined = groups[i] | groups[j]
            groups |= dict.fromkeys(joined, joined)
    return set(groups.values())


word_sets = st.sets(st.sampled_from("abcdefghijkl"), min_size=1, max_size=12)
texts = st.lists(word_sets.map(lambda words: " ".join(sorted(words))), max_size=25)


@UNHURRIED
@given(texts=texts)
def test_groups_are_those_of_comparing_every_pair(texts: list[str]) -> None:
    groups = near_duplicate_groups(texts)
    assert {frozenset(group) for group in groups} == connected(texts)
    assert sorted(i for group in groups for i in group) == list(range(len(texts)))


@UNHURRIED
@given(texts=texts, fold=st.integers(0, 3))
def test_near_duplicates_are_on_one_side(texts: list[str], fold: int) -> None:
    training, validation = split(dataset_of(texts), 0.25, fold)
    kept = [e.text for e in training.examples] + [e.text for e in validation.examples]
    assert Counter(kept) == Counter(texts)
    sides = {e.text: "training" for e in training.examples}
    sides |= {e.text: "validation" for e in validation.examples}
    for group in connected(texts):
        assert len({sides[texts[i]] for i in group}) == 1


@UNHURRIED
@given(texts=texts, seed=st.integers())
def test_the_split_does_not_depend_on_the_order_of_rows(texts: list[str], seed: int) -> None:
    shuffled = random.Random(seed).sample(texts, len(texts))
    for one, other in zip(
        split(dataset_of(texts), 0.5), split(dataset_of(shuffled), 0.5), strict=True
    ):
        assert Counter(e.text for e in one.examples) == Counter(e.text for e in other.examples)


MANY = [f"text{i} of{i} many{i}" for i in range(2_000)]


def test_the_split_is_the_same_each_time_and_near_its_fraction() -> None:
    training, validation = split(dataset_of(MANY), 0.1)
    assert split(dataset_of(MANY), 0.1) == (training, validation)
    # 2,000 draws of probability 0.1: 200 on average, standard deviation 13.4.
    assert len(validation.examples) == pytest.approx(200, abs=70)
    assert len(training.examples) + len(validation.examples) == 2_000


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_folds_are_disjoint_and_together_complete(folds: int) -> None:
    dataset = dataset_of(MANY)
    validated = [e for i in range(folds) for e in split(dataset, 1 / folds, i)[1].examples]
    assert Counter(validated) == Counter(dataset.examples)
