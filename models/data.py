"""Labelled texts from a CSV file, and a validation split that near-duplicates cannot leak across.

May import: the standard library and `core`.

Two spellings of Davidson et al. 2017 are read alike: the public `labeled_data.csv` (columns
`tweet`, `class` with 0, 1, 2) and a file with the columns `text` and `label` (the label's name).
Any other CSV with a text and a label column works too; its labels are then sorted by name. Where
the file has a column for each label with the annotators' votes for it, the votes are read as well.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, inf
from pathlib import Path

from core.tokenizer import decode_html_entities

# The order of the public file's `class` column: 0, 1, 2.
DAVIDSON_LABELS = ("hate_speech", "offensive_language", "neither")

TEXT_COLUMNS = ("text", "tweet")
LABEL_COLUMNS = ("label", "class")

# Word sets of two texts that overlap at least this much (Jaccard) count as one text: retweets with
# a word added, the same joke with another link. 0.7 joins those and keeps mere topics apart.
NEAR_DUPLICATE_JACCARD = Fraction(7, 10)


class DataError(ValueError):
    """A file that cannot be read as labelled texts; the message names it and the line."""


@dataclass(frozen=True)
class Example:
    """One labelled text; `label` is an index into the data set's labels.

    `votes` has the share of the annotators that chose each label, in the labels' order; without
    votes in the file it is 1 for `label` and 0 for the others.
    """

    text: str
    label: int
    votes: tuple[float, ...]


@dataclass(frozen=True)
class Dataset:
    """Labelled texts and the names that their labels stand for."""

    labels: tuple[str, ...]
    examples: tuple[Example, ...]


def read_dataset(path: Path) -> Dataset:
    """Reads a CSV of texts and labels, HTML entities decoded as the served model decodes them.

    Raises `DataError` for a file without a text or a label column, an empty text or label, or fewer
    than two labels.
    """
    header, rows = _read_rows(path)
    text_column = _find_column(path, header, TEXT_COLUMNS)
    label_column = _find_column(path, header, LABEL_COLUMNS)
    for line, row in rows:
        if not (row[text_column] or "").strip() or not (row[label_column] or "").strip():
            raise DataError(f"{path}, line {line}: a text and a label are needed, one is empty")
    labels = [_name(row[label_column], numbered=label_column == "class") for _, row in rows]
    names = _label_names(path, labels)
    has_votes = set(names) <= set(header)
    examples = []
    for (line, row), label_name in zip(rows, labels, strict=True):
        label = names.index(label_name)
        votes = _votes(path, line, row, names) if has_votes else _one_hot(label, len(names))
        examples.append(Example(decode_html_entities(row[text_column]), label, votes))
    return Dataset(names, tuple(examples))


def _read_rows(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """The header, and each row with its line number."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            return reader.fieldnames or (), [(reader.line_num, row) for row in reader]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}, after line {reader.line_num}: {error}") from error


def _votes(
    path: Path, line: int, row: Mapping[str, str], names: Sequence[str]
) -> tuple[float, ...]:
    try:
        counts = [float(row[name]) for name in names]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}, line {line}: the votes are no numbers") from error
    if min(counts) < 0 or not 0 < sum(counts) < inf:
        raise DataError(f"{path}, line {line}: the votes must be 0 or more, and not all 0")
    return tuple(count / sum(counts) for count in counts)


def _one_hot(label: int, labels: int) -> tuple[float, ...]:
    return tuple(float(i == label) for i in range(labels))


def _find_column(path: Path, header: Iterable[str], accepted: Sequence[str]) -> str:
    for name in accepted:
        if name in header:
            return name
    raise DataError(f"{path}: no column {' or '.join(accepted)}; it has {', '.join(header)}")


def _name(label: str, numbered: bool) -> str:
    """The public file's class number as a name; any other label as it is."""
    return DAVIDSON_LABELS[int(label)] if numbered and label in ("0", "1", "2") else label


def _label_names(path: Path, labels: Iterable[str]) -> tuple[str, ...]:
    found = set(labels)
    if len(found) < 2:
        raise DataError(f"{path}: a classifier needs two labels or more, found {sorted(found)}")
    return DAVIDSON_LABELS if found <= set(DAVIDSON_LABELS) else tuple(sorted(found))


def split(dataset: Dataset, validation_fraction: float, fold: int = 0) -> tuple[Dataset, Dataset]:
    """Training and validation parts; a text and its near-duplicates are on one side.

    Another `fold` (0 to 1 / `validation_fraction` - 1) validates on other texts. Deterministic: a
    group of near-duplicates goes where the SHA-256 of its smallest text says, so neither the file's
    order nor a seed can be tuned to flatter the result.
    """
    training: list[Example] = []
    validation: list[Example] = []
    for group in near_duplicate_groups([example.text for example in dataset.examples]):
        key = min(dataset.examples[i].text for i in group)
        share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
        in_fold = fold <= share / validation_fraction < fold + 1
        side = validation if in_fold else training
        side.extend(dataset.examples[i] for i in group)
    return Dataset(dataset.labels, tuple(training)), Dataset(dataset.labels, tuple(validation))


def near_duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Indices of texts, grouped so that near-duplicates share a group.

    Candidates come from the rare words that two texts share: with a Jaccard overlap of at least t,
    one of a text's ceil((1 - t) n) + 1 rarest words must be shared (prefix filtering, Chaudhuri et
    al. 2006), so no near-duplicate is missed and common words make no pairs.
    """
    words = [_content_words(text) for text in texts]
    frequency: dict[str, int] = defaultdict(int)
    for word_set in words:
        for word in word_set:
            frequency[word] += 1
    parent = list(range(len(texts)))
    postings: dict[str, list[int]] = defaultdict(list)
    for i, word_set in enumerate(words):
        rarest = sorted(word_set, key=lambda word: (frequency[word], word))
        prefix = rarest[: len(rarest) - _overlap_needed(len(rarest)) + 1]
        candidates = {j for word in prefix for j in postings[word]}
        for j in candidates:
            if _jaccard(word_set, words[j]) >= NEAR_DUPLICATE_JACCARD:
                parent[_root(parent, i)] = _root(parent, j)
        for word in prefix:
            postings[word].append(i)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(texts)):
        groups[_root(parent, i)].append(i)
    return list(groups.values())


def _overlap_needed(size: int) -> int:
    """How many of `size` words a near-duplicate shares at least: ceil(t n)."""
    return ceil(NEAR_DUPLICATE_JACCARD * size)


def _jaccard(a: frozenset[str], b: frozenset[str]) -> Fraction:
    return Fraction(len(a & b), len(a | b))


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


def _content_words(text: str) -> frozenset[str]:
    """Lower-case words without links, mentions and the retweet mark; else the text itself."""
    stripped = re.sub(r"https?://\S+|@\w+|\brt\b", " ", text.lower())
    return frozenset(re.findall(r"\w+", stripped)) or frozenset([text])
