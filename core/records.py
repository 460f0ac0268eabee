"""Streams of .txt, .csv and .jsonl -> records; outcomes -> .jsonl. Constant memory, nothing lost.

Every line of the input becomes one line of the output, in order: a prediction or an error. A line
that cannot be read (no UTF-8, too long, not JSON, no text) is an error record with its number, and
the lines after it are read as if nothing had happened. In a CSV a row may take several lines, and a
quote that is never closed takes those up to the next quote: the error then tells which.

May import: msgspec, the rest of `core`, the standard library.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, cast, get_args

import msgspec

from core.classifier import Classifier
from core.errors import InputUnreadable, InvalidInput, InvalidRecord
from core.types import Prediction

Format = Literal["txt", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)

# As much as one HTTP request may carry; a longer line is an error record and is never held whole.
MAX_LINE_BYTES = 1_000_000
TEXT_COLUMNS = ("text", "tweet")
# Texts in flight for each worker: enough to keep it busy, few enough to hold in memory.
WINDOW_PER_WORKER = 16


@dataclass(frozen=True, slots=True)
class Record:
    """One input line: `line` counts from 1 (a CSV's header is line 1); `id` is the input's own.

    `content` is the text, or the error that stands in its place.
    """

    line: int
    id: str | int | None
    content: str | InvalidRecord


def format_of(name: str) -> Format:
    """The format that a file's name tells, `.gz` aside. Raises `InputUnreadable`."""
    suffix = name.removesuffix(".gz").rpartition(".")[2]
    for known in FORMATS:
        if suffix == known:
            return known
    raise InputUnreadable(f"{name}: the name must end in .txt, .csv or .jsonl, with or without .gz")


def open_compressed(stream: io.RawIOBase, name: str) -> BinaryIO:
    """`stream`, buffered, and decompressed where `name` ends in .gz."""
    buffered = io.BufferedReader(stream)
    return cast(BinaryIO, gzip.open(buffered)) if name.endswith(".gz") else buffered


def read_records(stream: BinaryIO, form: Format) -> Iterator[Record]:
    """The records of a stream of bytes, one at a time.

    txt: a text a line. csv: a header, one column `text` or `tweet`, perhaps a column `id`. jsonl:
    objects with `text` and perhaps `id`; other fields are ignored. Blank lines of txt and jsonl are
    error records too, so that line numbers and counts agree.
    Raises `InputUnreadable` for a broken gzip stream or a CSV without a text column.
    """
    lines = _lines(stream)
    if form == "csv":
        yield from _csv_records(lines)
    else:
        parse = _parse_json if form == "jsonl" else _parse_text
        for number, raw in lines:
            yield parse(number, raw)


def classify_records(
    classifier: Classifier, records: Iterator[Record], workers: Executor, window: int
) -> Iterator[tuple[Record, Prediction | InvalidInput]]:
    """Each record with its outcome, in the records' order; at most `window` are in flight.

    Raises `InferenceFailed` when the engine fails: that is no record's fault.
    """
    pending: deque[tuple[Record, Future[Prediction | InvalidInput]]] = deque()
    try:
        for record in records:
            pending.append((record, workers.submit(_classify, classifier, record)))
            if len(pending) >= window:
                yield _settled(pending.popleft())
        while pending:
            yield _settled(pending.popleft())
    finally:
        for _, future in pending:
            future.cancel()


def outcome_line(
    classifier: Classifier, record: Record, outcome: Prediction | InvalidInput, top_k: int | None
) -> bytes:
    """The output's line for a record: its number and id, the prediction or error, the model."""
    fields: dict[str, Any] = {"line": record.line}
    if record.id is not None:
        fields["id"] = record.id
    fields |= outcome.fields(top_k) if isinstance(outcome, Prediction) else outcome.fields()
    fields["model"] = classifier.identity
    return msgspec.json.encode(fields) + b"\n"


def _classify(classifier: Classifier, record: Record) -> Prediction | InvalidInput:
    if isinstance(record.content, InvalidInput):
        return record.content
    return classifier.classify_each([record.content])[0]


def _settled(
    entry: tuple[Record, Future[Prediction | InvalidInput]],
) -> tuple[Record, Prediction | InvalidInput]:
    return entry[0], entry[1].result()


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """(number, line without its end) from 1 on; None for a line over `MAX_LINE_BYTES`."""
    number = 0
    try:
        while line := stream.readline(MAX_LINE_BYTES + 2):
            number += 1
            content = line.removesuffix(b"\n").removesuffix(b"\r")
            if len(content) <= MAX_LINE_BYTES:
                yield number, content
                continue
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            yield number, None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputUnreadable(f"the gzip stream breaks after line {number}: {error}") from error
    except OSError as error:
        raise InputUnreadable(f"reading failed after line {number}: {error}") from error


def _decoded(number: int, raw: bytes | None) -> str:
    """Raises `InvalidRecord`. A byte-order mark may stand before the first line."""
    if raw is None:
        raise InvalidRecord(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRecord(f"the line is not UTF-8 at byte {error.start}") from error


def _parse_text(number: int, raw: bytes | None) -> Record:
    try:
        return Record(number, None, _decoded(number, raw))
    except InvalidRecord as error:
        return Record(number, None, error)


class _JsonLine(msgspec.Struct):
    text: str
    id: str | int | None = None


def _parse_json(number: int, raw: bytes | None) -> Record:
    try:
        line = _decoded(number, raw)
        if not line.strip():
            raise InvalidRecord("the line is blank")
        row = msgspec.json.decode(line, type=_JsonLine)
    except InvalidRecord as error:
        return Record(number, None, error)
    except (msgspec.MsgspecError, RecursionError) as error:
        return Record(number, None, InvalidRecord(f"no JSON object with a text: {error}"))
    return Record(number, row.id, row.text)


class _CsvLines:
    """Feeds csv.reader and remembers what it could not decode of the row in the making."""

    def __init__(self, lines: Iterator[tuple[int, bytes | None]]) -> None:
        self._lines = lines
        self._row_bytes = 0
        self.first = self.last = 0
        self.problem: InvalidRecord | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Raises `csv.Error` for a row that grows too long: its reader begins a new one."""
        number, raw = next(self._lines)
        self.first, self.last = self.first or number, number
        self._row_bytes += len(raw or b"")
        if self._row_bytes > MAX_LINE_BYTES:
            raise csv.Error(f"the row is longer than {MAX_LINE_BYTES:,} bytes")
        try:
            return _decoded(number, raw) + "\n"
        except InvalidRecord as error:
            self.problem = self.problem or error
            # Its quotes still count, or the row's end would be lost with them.
            return (raw or b"").decode(errors="replace") + "\n"

    def next_row(self, reader: Any) -> tuple[int, list[str] | InvalidRecord] | None:
        """(number of its first line, the row or what is wrong with it); None at the end."""
        self.first, self.problem, self._row_bytes = 0, None, 0
        try:
            row = next(reader, None)
        except csv.Error as error:
            return self.first, InvalidRecord(f"no CSV row in {self._range()}: {error}")
        if row is None:
            return None
        return self.first, self.problem or row

    def _range(self) -> str:
        """The lines that the row took: an unbalanced quote takes those up to the next one."""
        return (
            f"line {self.first}"
            if self.first == self.last
            else (f"lines {self.first} to {self.last}")
        )


def _csv_records(lines: Iterator[tuple[int, bytes | None]]) -> Iterator[Record]:
    source = _CsvLines(lines)
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(source, strict=True)
    header = source.next_row(reader)
    if header is None:
        return
    names = header[1]
    if isinstance(names, InvalidRecord):
        raise InputUnreadable(f"the CSV's header cannot be read: {names}")
    text_column = next((names.index(name) for name in TEXT_COLUMNS if name in names), None)
    if text_column is None:
        raise InputUnreadable(f"the CSV has no column {' or '.join(TEXT_COLUMNS)}")
    id_column = names.index("id") if "id" in names else None
    while (numbered := source.next_row(reader)) is not None:
        number, row = numbered
        if isinstance(row, InvalidRecord):
            yield Record(number, None, row)
        elif len(row) != len(names):
            problem = f"the row has {len(row)} fields, the header {len(names)}"
            yield Record(number, None, InvalidRecord(problem))
        else:
            yield Record(number, None if id_column is None else row[id_column], row[text_column])


class CountingReader(io.RawIOBase):
    """A stream that tells how many bytes were read of it, for progress over compressed files."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read1(len(buffer))  # what is there: a pipe's lines are not held back
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)
