"""Process start to first correct answer, side by side, and memory after it.

    python -m benchmarks.cold_start --repeats 10

The servers take turns, so that a noisy moment of the machine hits all alike; ratios are of the
times within one turn, and the median of them is told.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

from tqdm import trange

from benchmarks import report
from benchmarks.checkpoints import torch_checkpoint
from benchmarks.processes import Memory, memory_of_tree
from benchmarks.servers import STARTERS, Starter, plain_torch

BASELINE = "plain torch"
TEXT, LABEL = "have a lovely day", "neither"


@dataclass(frozen=True)
class Start:
    """Seconds from the process's start to its first answer, and its memory after that."""

    seconds: float
    memory: Memory


def measure(starter: Starter, label: str | None) -> Start:
    """Raises `RuntimeError` when the answer is not `label` (None: weights are random)."""
    begin = perf_counter()
    with starter() as server:
        answer = server.predict(TEXT)
        seconds = perf_counter() - begin
        if label not in (None, answer["predicted_label"]):
            raise RuntimeError(f"a wrong answer: {answer}")
        return Start(seconds, memory_of_tree(server.process.pid))


def compare(repeats: int) -> dict[str, list[Start]]:
    """`repeats` turns of every server, after one that is not counted."""
    checkpoint, real = torch_checkpoint()
    starters: dict[str, Starter] = {**STARTERS, BASELINE: partial(plain_torch, checkpoint)}
    starts: dict[str, list[Start]] = {name: [] for name in starters}
    for turn in trange(repeats + 1, desc="cold start"):
        for name, starter in starters.items():
            start = measure(starter, LABEL if real or name != BASELINE else None)
            if turn > 0:
                starts[name].append(start)
    return starts


def figures(starts: dict[str, list[Start]]) -> dict[str, dict[str, float]]:
    """Medians by server; ratios are how many times faster than each plain design."""
    result = {}
    for name, measured in starts.items():
        seconds = [start.seconds for start in measured]
        result[name] = {
            "median_s": median(seconds),
            "min_s": min(seconds),
            "max_s": max(seconds),
            "against_plain_torch": _ratio(starts["plain torch"], measured),
            "against_plain_onnx": _ratio(starts["plain ONNX"], measured),
            "pss_mib": median(start.memory.pss_mib for start in measured),
            "rss_mib": median(start.memory.rss_mib for start in measured),
        }
    return result


def _ratio(baseline: Sequence[Start], ours: Sequence[Start]) -> float:
    return median(a.seconds / b.seconds for a, b in zip(baseline, ours, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    found = figures(compare(parser.parse_args(arguments).repeats))
    rows = [
        [
            name,
            f"{row['median_s']:.2f} s ({row['min_s']:.2f} to {row['max_s']:.2f})",
            f"{row['against_plain_torch']:.1f}",
            f"{row['against_plain_onnx']:.1f}",
            f"{row['pss_mib']:.0f} MiB",
            f"{row['rss_mib']:.0f} MiB",
        ]
        for name, row in found.items()
    ]
    header = ["server", "first answer", "x plain torch", "x plain ONNX", "memory (PSS)", "(RSS)"]
    print(report.table(header, rows))
    print(report.save("cold_start", found))


if __name__ == "__main__":
    main()
