"""The command line.

    python -m core "some text"                              a prediction, as JSON
    python -m core --input FILE --output OUT.jsonl          a file (.txt .csv .jsonl, also .gz)
    ... | python -m core --format jsonl > out.jsonl         standard input

May import: tqdm, the rest of `core`, the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

import msgspec
from tqdm import tqdm

from core.classifier import Classifier
from core.cpu import available_cpus
from core.errors import ClassifierError, InputUnreadable, InvalidInput
from core.records import (
    FORMATS,
    WINDOW_PER_WORKER,
    CountingReader,
    Format,
    classify_records,
    format_of,
    open_compressed,
    outcome_line,
    read_records,
)
from core.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: done, bad records included; 1: nothing was written; 2: wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.text is not None and (options.input, options.output) != ("-", "-"):
        parser.error("a text is printed; --input and --output are for files: give one or the other")
    if options.text is None and options.input == "-" and sys.stdin.isatty():
        parser.error("say a text, or a file by --input")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        settings = Settings.from_env(os.environ)
        if options.text is not None:
            _print_prediction(options, settings)
        else:
            _classify_file(options, settings)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ClassifierError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m core",
        description="Classify a text, a file, or standard input.",
    )
    parser.add_argument("text", nargs="?", help="the text; without it a file is read")
    parser.add_argument("--input", default="-", help="file to read; - is standard input")
    parser.add_argument("--output", default="-", help=".jsonl file to write; - is standard output")
    parser.add_argument(
        "--format", choices=FORMATS, help="the input's format; default: its name's, or txt"
    )
    parser.add_argument("--model", type=Path, help="model directory; default CLASSIFIER_MODEL")
    parser.add_argument("--top-k", type=int, help="how many labels to give; default all")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like an error, so that the temporary file goes."""
    raise SystemExit(128 + signum)


def _print_prediction(options: argparse.Namespace, settings: Settings) -> None:
    classifier = _load(options, settings, settings.threads)
    fields = classifier.classify_one(options.text).fields(options.top_k)
    document = msgspec.json.format(msgspec.json.encode(fields), indent=2)
    sys.stdout.buffer.write(document + b"\n")


def _load(options: argparse.Namespace, settings: Settings, threads: int) -> Classifier:
    classifier = Classifier.load(options.model or settings.model, threads, settings.verify_weights)
    classifier.check_top_k(options.top_k)
    return classifier


def _classify_file(options: argparse.Namespace, settings: Settings) -> None:
    form: Format = options.format or ("txt" if options.input == "-" else format_of(options.input))
    workers = available_cpus()
    with _open_input(options.input) as (raw, size):
        classifier = _load(options, settings, threads=1)
        with (
            _open_output(options.output, options.input) as output,
            ThreadPoolExecutor(workers) as pool,
            _progress(size, options.quiet) as bar,
        ):
            counting = CountingReader(raw)
            records = read_records(open_compressed(counting, options.input), form)
            window = WINDOW_PER_WORKER * workers
            texts = errors = 0
            for record, outcome in classify_records(classifier, records, pool, window):
                output.write(outcome_line(classifier, record, outcome, options.top_k))
                texts += 1
                errors += isinstance(outcome, InvalidInput)
                bar.update(counting.bytes_read - bar.n)
                bar.set_postfix(texts=texts, errors=errors, refresh=False)
    print(f"{texts:,} records, {errors:,} of them errors", file=sys.stderr)


@contextlib.contextmanager
def _open_input(name: str) -> Iterator[tuple[io.BufferedReader, int | None]]:
    """The input's bytes and, of a regular file, how many there are."""
    standard = name == "-"
    try:
        stream = open(0 if standard else name, "rb", closefd=not standard)  # noqa: SIM115
    except OSError as error:
        raise InputUnreadable(f"{name} cannot be read: {error.strerror}") from error
    with stream:
        yield stream, os.fstat(stream.fileno()).st_size or None


@contextlib.contextmanager
def _open_output(name: str, input_name: str) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears whole or not at all.

    The lines go to a temporary file in the same folder, which takes the output's name at the end.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(name).resolve()
    if target.suffix == ".gz":
        raise InputUnreadable(f"{name}: the output is not compressed; name a .jsonl file")
    if not target.parent.is_dir():
        raise InputUnreadable(f"{name}: {target.parent} is no directory")
    if target.exists() and not target.is_file():
        with target.open("wb") as stream:  # a pipe or a device: there is nothing to replace
            yield stream
        return
    if target.exists() and input_name != "-" and target.samefile(input_name):
        raise InputUnreadable(f"{name} is the input; name another output")
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", suffix=".partial", delete=False
    ) as partial:
        try:
            yield partial
            partial.flush()
            os.fsync(partial.fileno())
            os.chmod(partial.name, 0o666 & ~_umask())
            os.replace(partial.name, target)
        except BaseException:
            os.unlink(partial.name)
            raise


def _umask() -> int:
    """The process's umask; it can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _progress(size: int | None, quiet: bool) -> tqdm[NoReturn]:
    return tqdm(total=size, unit="B", unit_scale=True, disable=quiet, mininterval=0.5)


if __name__ == "__main__":
    sys.exit(main())
