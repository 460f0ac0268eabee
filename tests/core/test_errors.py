"""The tree of errors is the one that its docstring draws; no message holds a caller's text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest

from core import errors
from core.classifier import Classifier
from core.errors import ClassifierError, InvalidInput, InvalidRecord
from core.records import Format, read_records

SECRET = "zanzibar"
BRANCH = re.compile(r"    ((?:[│ ] {3})*)[├└]── (\w+)  ")


def drawn(docstring: str) -> Iterator[tuple[str, str]]:
    """(class, its parent) of each line of the drawing below the root."""
    ancestors = ["ClassifierError"]
    for indent, name in BRANCH.findall(docstring):
        ancestors[1 + len(indent) // 4 :] = [name]
        yield name, ancestors[-2]


def subclasses(parent: type[ClassifierError]) -> Iterator[tuple[type[ClassifierError], str]]:
    """(class, its parent's name), a class before its own subclasses."""
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child, parent.__name__
            yield from subclasses(child)


EVERY = [ClassifierError, *(child for child, _ in subclasses(ClassifierError))]


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    tree = [(child.__name__, parent) for child, parent in subclasses(ClassifierError)]
    assert len(tree) == 13
    assert list(drawn(errors.__doc__ or "")) == tree


def test_every_exception_of_the_module_is_in_the_tree() -> None:
    defined = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {c for c in defined if issubclass(c, BaseException)} == set(EVERY)


def test_each_class_has_a_code_of_its_own() -> None:
    codes = [vars(error)["code"] for error in EVERY]
    assert len(set(codes)) == len(EVERY)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []


@pytest.mark.parametrize("text", [f"{SECRET}\ud800", f"{SECRET} " * 500])
def test_what_is_said_of_a_text_never_holds_it(classifier: Classifier, text: str) -> None:
    (error,) = classifier.classify_each([text], truncate=False)
    assert isinstance(error, InvalidInput)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("txt", f"{SECRET} \udcff"),
        ("jsonl", f'{{"text": "{SECRET}'),
        ("jsonl", f'{{"text": "{SECRET}", "id": 1.5}}'),
        ("jsonl", f'{{"text": ["{SECRET}"]}}'),
        ("jsonl", f'{{"{SECRET}": 1}}'),
        ("jsonl", f'"{SECRET}"'),
        ("jsonl", SECRET),
        ("csv", f"text\n{SECRET},{SECRET}"),
        ("csv", f'text\n"{SECRET}"{SECRET}'),
        ("csv", f'text\n"{SECRET}'),
    ],
)
def test_what_is_said_of_a_record_never_holds_it(form: Format, line: str) -> None:
    stream = io.BytesIO(line.encode(errors="surrogateescape"))
    (record,) = read_records(stream, form)
    assert isinstance(record.content, InvalidRecord)
    assert SECRET not in str(record.content)
