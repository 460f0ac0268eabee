"""`python -m core` as people run it: a process, its files, its streams, its exit code."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.classifier import Classifier
from core.records import MAX_LINE_BYTES, WINDOW_PER_WORKER

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "core"]
LABELS = {"hate_speech", "offensive_language", "neither"}


def run(
    *arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
    )


def rows(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_text_gives_its_prediction(classifier: Classifier) -> None:
    done = run("have a lovely day")
    fields = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    expected = classifier.classify_one("have a lovely day").fields()
    assert fields.pop("all_scores") == pytest.approx(expected.pop("all_scores"), abs=1e-4)
    assert fields == expected | {"confidence": pytest.approx(expected["confidence"], abs=1e-4)}


def test_top_k_limits_the_scores() -> None:
    for done in (
        run("have a lovely day", "--top-k", "1"),
        run("--top-k", "1", stdin=b"have a lovely day\n"),
    ):
        assert list(json.loads(done.stdout)["all_scores"]) == ["neither"]


@pytest.mark.parametrize("top_k", ["0", "-1", "4"])
def test_top_k_beyond_the_labels_is_refused(tmp_path: Path, top_k: str) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("soup\n")
    for arguments in (["soup"], ["--input", str(source), "--output", str(target)]):
        done = run(*arguments, f"--top-k={top_k}")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"error: top_k must be from 1 to 3")
    assert not target.exists()


@pytest.mark.parametrize("text", ["", " \t", b"\xff soup"])
def test_a_text_that_is_none_is_an_error(text: str | bytes) -> None:
    done = subprocess.run([*COMMAND, text], capture_output=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: the text ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_file_to_file_keeps_ids_and_goes_on_after_a_bad_record(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    content = b"id,text\na,have a lovely day\nb,\xff\nc\nd,soup\n"
    source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    done = run("--input", source, "--output", target)
    answers = rows(target.read_bytes())
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"4 records, 2 of them errors" in done.stderr
    assert [(row["line"], row.get("id")) for row in answers] == [
        (2, "a"),
        (3, None),
        (4, None),
        (5, "d"),
    ]
    assert [row.get("error", {}).get("code") for row in answers] == [
        None,
        "invalid_record",
        "invalid_record",
        None,
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.jsonl"])


def test_the_output_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    source, target, other = tmp_path / "in.txt", tmp_path / "out.jsonl", tmp_path / "other"
    source.write_text("soup\n")
    other.touch()
    assert run("--input", source, "--output", target).returncode == 0
    assert target.stat().st_mode == other.stat().st_mode


def test_stdin_to_stdout_in_a_named_format() -> None:
    data = b'{"id": 1, "text": "have a lovely day"}\n\n{"id": 2, "text": "soup"}\n'
    done = run("--format", "jsonl", "--quiet", stdin=data)
    answers = rows(done.stdout)
    assert done.returncode == 0
    assert [(row["line"], row.get("id")) for row in answers] == [(1, 1), (2, None), (3, 2)]
    assert set(answers[0]["all_scores"]) == LABELS
    assert done.stderr == b"3 records, 1 of them errors\n"


def test_stdin_is_txt_unless_told_and_order_is_kept() -> None:
    texts = ["soup " * (1 + 7 * n % 11) for n in range(150)]
    done = run("--quiet", stdin="\n".join(texts).encode())
    answers = rows(done.stdout)
    assert [row["line"] for row in answers] == list(range(1, 151))
    assert [row["token_count"] for row in answers] == [2 + len(text.split()) for text in texts]


def test_no_input_gives_an_empty_output(tmp_path: Path) -> None:
    done = run("--output", tmp_path / "out.jsonl", "--quiet")
    assert (done.returncode, (tmp_path / "out.jsonl").read_bytes()) == (0, b"")


def test_the_environment_names_the_model_and_the_option_goes_first(
    tmp_path: Path, default_model: Path
) -> None:
    missing = {"CLASSIFIER_MODEL": str(tmp_path / "missing")}
    refused = run("soup", env=missing)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"missing is no directory" in refused.stderr
    assert run("soup", "--model", default_model, env=missing).returncode == 0


def test_altered_weights_are_refused_where_full_verification_is_asked(model_copy: Path) -> None:
    with (model_copy / "model.onnx.data").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        last = weights.read(1)[0]
        weights.seek(-1, os.SEEK_END)
        weights.write(bytes([last ^ 1]))
    done = run("soup", "--model", model_copy, env={"CLASSIFIER_VERIFY": "full"})
    assert done.returncode == 1
    assert b"model.onnx.data was altered" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "{tmp}/missing.txt"], 1, b"missing.txt cannot be read"),
        (["--input", "{tmp}/in.pdf"], 1, b"the name must end in"),
        (["--input", "{tmp}"], 1, b"the name must end in"),
        (["--input", "{tmp}", "--format", "txt"], 1, b"cannot be read"),
        (["--input", "{tmp}/no_text.csv"], 1, b"no column text or tweet"),
        (["--input", "{tmp}/cut.txt.gz"], 1, b"gzip stream breaks after line"),
        (["--input", "{tmp}/in.txt", "--model", "{tmp}/missing"], 1, b"missing is no directory"),
        (["--format", "xml"], 2, b"invalid choice"),
        (["--top-k", "two", "soup"], 2, b"invalid int value"),
        (["one", "two"], 2, b"unrecognized arguments"),
    ],
)
def test_what_cannot_be_done_leaves_no_output(
    tmp_path: Path, arguments: list[str], code: int, message: bytes
) -> None:
    (tmp_path / "in.txt").write_text("soup\n")
    (tmp_path / "no_text.csv").write_text("id,body\n1,soup\n")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(os.urandom(10_000).hex().encode())[:-100])
    before = sorted(tmp_path.iterdir())
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    done = run(*filled, "--output", tmp_path / "out.jsonl", "--quiet")
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_a_setting_that_is_not_accepted_is_named() -> None:
    done = run("soup", env={"CLASSIFIER_THREADS": "many"})
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: CLASSIFIER_THREADS='many' is not accepted")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/out.jsonl", "missing is no directory"),
        (".", "Is a directory"),
        ("out.jsonl.gz", "the output is not compressed"),
    ],
)
def test_an_output_that_cannot_be_written_is_an_error(
    tmp_path: Path, name: str, message: str
) -> None:
    done = run("--output", tmp_path / name, "--quiet", stdin=b"soup\n")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert message in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_link_as_output_stays_a_link_and_its_target_gets_the_lines(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert run("--output", tmp_path / "link.jsonl", "--quiet", stdin=b"soup\n").returncode == 0
    assert (tmp_path / "link.jsonl").is_symlink()
    assert [row["line"] for row in rows((tmp_path / "real.jsonl").read_bytes())] == [1]


@pytest.mark.parametrize("option", ["--input", "--output"])
def test_a_text_and_a_file_at_once_are_wrong_usage(tmp_path: Path, option: str) -> None:
    (tmp_path / "in.txt").write_text("soup\n")
    done = run("soup", option, tmp_path / "in.txt")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"give one or the other" in done.stderr
    assert (tmp_path / "in.txt").read_text() == "soup\n"


def test_a_terminal_is_not_waited_for() -> None:
    terminal, its_other_end = os.openpty()
    try:
        done = subprocess.run(
            COMMAND, stdin=its_other_end, capture_output=True, cwd=REPOSITORY, timeout=60
        )
    finally:
        os.close(terminal)
        os.close(its_other_end)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"say a text, or a file by --input" in done.stderr


@pytest.mark.parametrize("alias", ["same", "symlink", "hard link"])
def test_an_output_that_is_the_input_is_refused(tmp_path: Path, alias: str) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "alias.jsonl"
    source.write_text("soup\n")
    if alias == "symlink":
        target.symlink_to(source)
    elif alias == "hard link":
        target.hardlink_to(source)
    else:
        target = source
    done = run("--input", source, "--output", target)
    assert done.returncode == 1
    assert b"is the input" in done.stderr
    assert source.read_text() == "soup\n"


def test_an_older_output_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("old\n" * 1_000)
    assert run("--output", target, "--quiet", stdin=b"soup\n").returncode == 0
    assert [row["line"] for row in rows(target.read_bytes())] == [1]


def test_a_pipe_as_output_stays_a_pipe_and_gets_the_lines(tmp_path: Path) -> None:
    pipe = tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = run("--output", pipe, "--quiet", stdin=b"soup\n")
        assert done.returncode == 0
        assert pipe.is_fifo()
        assert [row["line"] for row in rows(os.read(reader, 65_536))] == [1]
    finally:
        os.close(reader)


@contextmanager
def reading_a_pipe(target: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has read some lines, wrote some of them, and waits for more."""
    lines = b"soup\n" * (WINDOW_PER_WORKER * (os.cpu_count() or 1) * 2)
    process = subprocess.Popen(
        [*COMMAND, "--output", str(target)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    with process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(lines)
        process.stdin.flush()
        # The progress bar is drawn when the temporary file is there.
        assert process.stderr.read(1)
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("kill", "code", "partials"),
    [(signal.SIGTERM, 143, 0), (signal.SIGKILL, -signal.SIGKILL, 1)],
)
@pytest.mark.parametrize("old", [None, b"old\n"])
def test_a_run_that_is_killed_leaves_the_output_as_it_was(
    tmp_path: Path, kill: signal.Signals, code: int, partials: int, old: bytes | None
) -> None:
    target = tmp_path / "out.jsonl"
    if old:
        target.write_bytes(old)
    with reading_a_pipe(target) as process:
        assert len(list(tmp_path.glob(".*.partial"))) == 1
        process.send_signal(kill)
        assert process.wait(60) == code
    assert (target.read_bytes() if target.exists() else None) == old
    assert len(list(tmp_path.glob(".*.partial"))) == partials


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    with process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(b"soup\n" * 50)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_long_line_on_stdin_is_an_error_record() -> None:
    done = run("--quiet", stdin=b"x" * (MAX_LINE_BYTES + 1) + b"\nsoup\n")
    codes = [row.get("error", {}).get("code") for row in rows(done.stdout)]
    assert codes == ["invalid_record", None]
