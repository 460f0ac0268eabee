"""Every line in is a record out, whatever the line holds; outcomes keep the records' order."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.classifier import Classifier
from core.errors import BlankText, InferenceFailed, InputUnreadable, InvalidInput, InvalidRecord
from core.records import (
    MAX_LINE_BYTES,
    CountingReader,
    Format,
    Record,
    classify_records,
    format_of,
    open_compressed,
    outcome_line,
    read_records,
)
from core.types import Prediction
from tests.core.conftest import CARD, UNHURRIED, FakeEngine, fixed
from tests.fakes import WordLengths

BOM = b"\xef\xbb\xbf"
LONG = b"x" * MAX_LINE_BYTES

Plain = tuple[int, str | int | None, str | None]


def read(data: bytes, form: Format) -> list[Plain]:
    """(line, id, text) of each record; None in the place of an error."""
    return [
        (record.line, record.id, record.content if isinstance(record.content, str) else None)
        for record in read_records(io.BytesIO(data), form)
    ]


def problem(data: bytes, form: Format) -> str:
    """What the only error record says."""
    records = read_records(io.BytesIO(data), form)
    (error,) = [r.content for r in records if isinstance(r.content, InvalidRecord)]
    return str(error)


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.txt", "txt"), ("a.b.csv", "csv"), ("x/a.jsonl", "jsonl"), ("a.csv.gz", "csv")],
)
def test_a_name_tells_its_format(name: str, form: str) -> None:
    assert format_of(name) == form


@pytest.mark.parametrize("name", ["a", "a.gz", "a.json", "txt/a", "a.TXT", "a.txt.bz2", ""])
def test_a_name_that_tells_none_is_refused(name: str) -> None:
    with pytest.raises(InputUnreadable, match=r"\.txt, \.csv or \.jsonl"):
        format_of(name)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"soup", [(1, None, "soup")]),
        (b"soup\n", [(1, None, "soup")]),
        (b"one\r\ntwo\r\n", [(1, None, "one"), (2, None, "two")]),
        (b"one\r\r\n", [(1, None, "one\r")]),
        (b"\n\nx\n", [(1, None, ""), (2, None, ""), (3, None, "x")]),
        (BOM + "é\n".encode() + BOM, [(1, None, "é"), (2, None, "\ufeff")]),
        (b"a\n\xff\xfe\nb", [(1, None, "a"), (2, None, None), (3, None, "b")]),
        (b"a\x00b\x0cc\rd\xe2\x80\xa8e\n", [(1, None, "a\0b\fc\rd\u2028e")]),
    ],
)
def test_a_txt_line_is_a_record(data: bytes, expected: list[Plain]) -> None:
    assert read(data, "txt") == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_the_greatest_length_is_read(end: bytes) -> None:
    assert read(LONG + end, "txt") == [(1, None, LONG.decode())]


@pytest.mark.parametrize("extra", [b"x", b"xx", b"x\r", b"\rx", LONG, LONG * 2 + b"\r", b"xxx"])
def test_a_longer_line_is_an_error_and_the_next_is_read(extra: bytes) -> None:
    assert read(LONG + extra + b"\nafter\n", "txt") == [(1, None, None), (2, None, "after")]
    assert "longer than 1,000,000 bytes" in problem(LONG + extra, "txt")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "soup"}', (1, None, "soup")),
        ('{"id": 7, "text": "soup", "extra": {"deep": [1, null]}}', (1, 7, "soup")),
        ('{"id": "a-7", "text": "s\\u00f6up"}\r', (1, "a-7", "söup")),
        ('{"id": null, "text": ""}', (1, None, "")),
        ('{"id": 123456789012345678901234567890, "text": "x"}', (1, int("1234567890" * 3), "x")),
        ('{"id": "a"}', (1, None, None)),
        ('{"text": 5}', (1, None, None)),
        ('{"text": null}', (1, None, None)),
        ('{"text": "x", "id": 1.5}', (1, None, None)),
        ('{"text": "x", "id": true}', (1, None, None)),
        ('{"text": "x"} {"text": "y"}', (1, None, None)),
        ('{"text": "\\ud800"}', (1, None, None)),
        ('{"text": "x"', (1, None, None)),
        ('["text", "x"]', (1, None, None)),
        ('"text"', (1, None, None)),
        ("null", (1, None, None)),
        ("12", (1, None, None)),
        ("soup", (1, None, None)),
        (" ", (1, None, None)),
    ],
)
def test_a_jsonl_line_is_a_record(line: str, expected: Plain) -> None:
    assert read(line.encode(), "jsonl") == [expected]


@pytest.mark.parametrize("nested", [b"[" * 100_000 + b"]" * 100_000, b"[" * 100_000])
def test_deep_nesting_is_an_error_record(nested: bytes) -> None:
    data = b'{"text": "a", "more": ' + nested + b'}\n{"text": "b"}\n'
    assert read(data, "jsonl") == [(1, None, None), (2, None, "b")]


def test_jsonl_goes_on_after_blank_undecodable_and_long_lines() -> None:
    lines = [BOM + b'{"text": "a"}', b"", b'{"text": "\xff"}', b'{"text": "' + LONG + b'"}']
    data = b"\n".join([*lines, b'{"text": "b"}'])
    assert read(data, "jsonl") == [
        (1, None, "a"),
        *[(number, None, None) for number in (2, 3, 4)],
        (5, None, "b"),
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"text\n", []),
        (b"text\nsoup\n", [(2, None, "soup")]),
        (BOM + b"text\r\nsoup\r\nsalt", [(2, None, "soup"), (3, None, "salt")]),
        (b"id,n,tweet\n7,0,soup\n,1,salt\n", [(2, "7", "soup"), (3, "", "salt")]),
        (b"tweet,text\na,b\n", [(2, None, "b")]),
        (
            b'text\n"one\ntwo, ""three"""\nlast\n',
            [(2, None, 'one\ntwo, "three"'), (4, None, "last")],
        ),
        (
            b"text,n\nsoup\nsalt,1,2\nrice,3\n",
            [(2, None, None), (3, None, None), (4, None, "rice")],
        ),
        (b"text\na\x00b\nc\n", [(2, None, "a\0b"), (3, None, "c")]),
        (b"text\n\xff\nsoup\n", [(2, None, None), (3, None, "soup")]),
        (b'text\n"a\n\xff\n"\nsoup\n', [(2, None, None), (5, None, "soup")]),
        (b'text\n"\xff\nmore"\nsoup\n', [(2, None, None), (4, None, "soup")]),
        (b"text\n\nsoup\n", [(2, None, None), (3, None, "soup")]),
        (b'text\nsoup\n"never\nclosed\n', [(2, None, "soup"), (3, None, None)]),
        (b'text\n"a"b\nsoup\n', [(2, None, None), (3, None, "soup")]),
        (b"text\na\rb\nsoup\n", [(2, None, None), (3, None, "soup")]),
        (b"text\n" + LONG + b"x\nsoup\n", [(2, None, None), (3, None, "soup")]),
        (b"text\n" + LONG + b"\nsoup\n", [(2, None, LONG.decode()), (3, None, "soup")]),
    ],
)
def test_a_csv_row_is_a_record_numbered_by_its_first_line(
    data: bytes, expected: list[Plain]
) -> None:
    assert read(data, "csv") == expected


@pytest.mark.parametrize(
    "header", [b"\n", b"id,body\n", b"Text\n", b"\xff,text\n", b'"text\n', b"1"]
)
def test_a_csv_without_a_text_column_is_unreadable(header: bytes) -> None:
    with pytest.raises(InputUnreadable, match="CSV"):
        read(header + b"1,soup\n" if header != b"1" else header, "csv")


lines = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20)
objects = st.fixed_dictionaries({}, optional={"text": st.text() | st.none(), "id": st.integers()})


@UNHURRIED
@given(lines=lines, form=st.sampled_from(["txt", "jsonl"]))
def test_as_many_records_as_lines_whatever_they_hold(lines: list[bytes], form: Format) -> None:
    numbers = [line for line, _, _ in read(b"".join(line + b"\n" for line in lines), form)]
    assert numbers == list(range(1, len(lines) + 1))


@UNHURRIED
@given(rows=st.lists(objects, max_size=10))
def test_json_texts_and_ids_come_back_as_they_went_in(rows: list[dict[str, str | None]]) -> None:
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    expected = [
        (row.get("id"), row["text"]) if row.get("text") is not None else (None, None)
        for row in rows
    ]
    assert [(id, text) for _, id, text in read(data, "jsonl")] == expected


@pytest.mark.parametrize(("name", "packed"), [("a.txt.gz", True), ("a.txt", False)])
def test_a_name_in_gz_is_decompressed_and_its_bytes_are_counted(name: str, packed: bool) -> None:
    content = b"soup\n" * 50_000
    data = gzip.compress(content) if packed else content
    counting = CountingReader(io.BufferedReader(io.BytesIO(data)))
    records = list(read_records(open_compressed(counting, name), "txt"))
    assert {record.content for record in records} == {"soup"}
    assert (len(records), counting.bytes_read) == (50_000, len(data))


@pytest.mark.parametrize("damage", ["cut", "noise", "no gzip", "altered", "no block"])
def test_a_broken_gzip_stream_is_unreadable(damage: str) -> None:
    good = gzip.compress(b"".join(b"%d soup\n" % i for i in range(20_000)))
    middle = len(good) // 2
    data = {
        "cut": good[:middle],
        "noise": good + b"noise",
        "no gzip": b"soup\n",
        "altered": good[:middle] + bytes(64) + good[middle + 64 :],
        "no block": good[:10] + b"\xff" * 64,
    }[damage]
    stream = open_compressed(io.BytesIO(data), "a.txt.gz")  # type: ignore[arg-type]
    with pytest.raises(InputUnreadable, match=r"gzip stream breaks after line \d+"):
        list(read_records(stream, "txt"))


def test_a_stream_that_fails_is_unreadable_behind_the_lines_that_were_read() -> None:
    class Failing(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() == len(self.getvalue()):
                raise OSError("the disk is gone")
            return super().readline(size)

    records = read_records(Failing(b"one\ntwo\n"), "txt")
    assert [next(records).content, next(records).content] == ["one", "two"]
    with pytest.raises(InputUnreadable, match="failed after line 2: the disk is gone"):
        next(records)


def test_a_csv_row_of_endless_quoted_lines_is_given_up_and_the_rest_is_read() -> None:
    # Each field is short and each line is short: only the row as a whole has no end.
    endless = b'x","\n' * (MAX_LINE_BYTES // 4)
    records = list(read_records(io.BytesIO(b'text\n"' + endless + b'x"\nsoup\n'), "csv"))
    assert "longer than 1,000,000 bytes" in str(records[0].content)
    assert records[0].line == 2
    assert records[-1].content == "soup"


@pytest.mark.parametrize(
    ("data", "form", "message"),
    [
        (b" \r\n", "jsonl", "the line is blank"),
        (b'text\n"a"b\n', "csv", "no CSV row in line 2:"),
        (b'text\nx\n"a\nb"c\ny\n', "csv", "no CSV row in lines 3 to 4:"),
        (b"text\na,b\n", "csv", "the row has 2 fields, the header 1"),
        (b"soup\xff", "txt", "not UTF-8 at byte 4"),
    ],
)
def test_an_error_record_says_what_is_wrong(data: bytes, form: Format, message: str) -> None:
    assert message in problem(data, form)


def test_a_line_in_a_pipe_is_read_though_the_pipe_stays_open() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as raw, ThreadPoolExecutor(1) as pool:
        try:
            os.write(writer, b"soup\n")
            records = read_records(open_compressed(CountingReader(raw), "-"), "txt")
            assert pool.submit(next, records).result(timeout=30) == Record(1, None, "soup")
        finally:
            os.close(writer)


def numbered(count: int) -> Iterator[Record]:
    """Texts of one word, whose length is the record's number."""
    return (Record(n, None, "x" * n) for n in range(1, count + 1))


def test_outcomes_keep_the_order_when_later_texts_are_done_first() -> None:
    done = [threading.Event() for _ in range(9)]

    def answer(ids: list[int]) -> list[float]:
        """Each odd text waits for the even one behind it."""
        if len(ids) == 1:
            assert ids[0] % 2 == 0 or done[ids[0] + 1].wait(30)
            done[ids[0]].set()
        return [float(ids[0]), 0.0, 0.0]

    classifier = Classifier(CARD, WordLengths(), FakeEngine(answer))
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(classify_records(classifier, numbered(8), pool, window=8))
    assert [record.line for record, _ in outcomes] == list(range(1, 9))
    one_by_one = [classifier.classify_one("x" * n) for n in range(1, 9)]
    assert [outcome for _, outcome in outcomes] == one_by_one


@pytest.mark.parametrize("window", [1, 3, 8])
def test_no_more_records_are_read_than_the_window_holds(window: int) -> None:
    classifier = Classifier(CARD, WordLengths(), fixed(0.0, 1.0, 2.0))
    read_so_far = 0

    def counted() -> Iterator[Record]:
        nonlocal read_so_far
        for record in numbered(20):
            read_so_far += 1
            yield record

    with ThreadPoolExecutor(2) as pool:
        ahead = [
            read_so_far - record.line + 1
            for record, _ in classify_records(classifier, counted(), pool, window)
        ]
    assert (max(ahead), len(ahead)) == (window, 20)


def test_bad_records_and_bad_texts_are_outcomes_in_their_place() -> None:
    bad = InvalidRecord("bad")
    records = iter([Record(1, None, "soup"), Record(2, None, bad), Record(3, "c", "\t")])
    classifier = Classifier(CARD, WordLengths(), fixed(0.0, 1.0, 2.0))
    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for _, outcome in classify_records(classifier, records, pool, 2)]
    assert [type(outcome) for outcome in outcomes] == [Prediction, InvalidRecord, BlankText]
    assert outcomes[1] is bad


def test_a_failing_engine_ends_the_run() -> None:
    def answer(ids: list[int]) -> list[float]:
        if ids == [3]:
            raise InferenceFailed("failed")
        return [0.0, 0.0, 0.0]

    classifier = Classifier(CARD, WordLengths(), FakeEngine(answer))
    seen = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(InferenceFailed):
        for record, _ in classify_records(classifier, numbered(9), pool, 2):
            seen.append(record.line)
    assert seen == [1, 2]


def test_texts_that_nobody_waits_for_any_more_are_not_classified() -> None:
    release, seen = threading.Event(), []

    def answer(ids: list[int]) -> list[float]:
        seen.append(ids)
        assert ids != [2] or release.wait(30)
        return [0.0, 1.0, 2.0]

    classifier = Classifier(CARD, WordLengths(), FakeEngine(answer))
    with ThreadPoolExecutor(1) as pool:
        outcomes = classify_records(classifier, numbered(9), pool, window=9)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        release.set()
    assert [ids for ids in seen if ids in ([1], [2])] == seen[1:]


@pytest.mark.parametrize(("id", "fields"), [(None, {}), (7, {"id": 7}), ("", {"id": ""})])
@pytest.mark.parametrize("top_k", [None, 2])
def test_an_output_line_is_the_record_its_outcome_and_the_model(
    id: str | int | None, fields: dict[str, object], top_k: int | None
) -> None:
    classifier = Classifier(CARD, WordLengths(), fixed(1.0, 2.0, 3.0), checksum="c0ffee")
    outcome = classifier.classify_one("soup")
    line = outcome_line(classifier, Record(5, id, "soup"), outcome, top_k)
    model = {"name": "fake", "version": "1", "checksum": "c0ffee"}
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"line": 5, **fields, **outcome.fields(top_k), "model": model}


@pytest.mark.parametrize("error", [InvalidRecord("no row"), BlankText("blank")])
def test_the_output_line_of_an_error_has_its_code(error: InvalidInput) -> None:
    classifier = Classifier(CARD, WordLengths(), fixed(1.0, 2.0, 3.0))
    fields = json.loads(outcome_line(classifier, Record(5, "a", "soup"), error, None))
    assert fields["error"] == {"code": error.code, "detail": str(error)}
    assert (fields["line"], fields["id"]) == (5, "a")
    assert "predicted_label" not in fields
