"""One start of one server: process start to first correct answer, then memory and bytes read.

    python -m benchmarks.start "ours, Cloud Run"        prints the figures as JSON

`cold_start` runs it for the servers of this checkout, and inside the images for theirs. May import:
the standard library, `benchmarks.processes`, `benchmarks.servers`: an image has nothing else.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from time import perf_counter

from benchmarks.processes import memory_of_tree, read_from_disk_mib
from benchmarks.servers import STARTERS, Starter

TEXT, LABEL = "have a lovely day", "neither"


@dataclass(frozen=True)
class Start:
    """`seconds` from the process's start to its first answer; then what its tree of processes holds
    in memory and has read from disk (nothing, where the page cache had it)."""

    seconds: float
    pss_mib: float
    rss_mib: float
    read_mib: float


def measure(starter: Starter, label: str | None = LABEL) -> Start:
    """Raises `RuntimeError` when the answer is not `label` (None: the weights are random)."""
    begin = perf_counter()
    with starter() as server:
        answer = server.predict(TEXT)
        seconds = perf_counter() - begin
        if label not in (None, answer["predicted_label"]):
            raise RuntimeError(f"a wrong answer: {answer}")
        memory = memory_of_tree(server.process.pid)
        read_mib = read_from_disk_mib(server.process.pid)
        return Start(seconds, memory.pss_mib, memory.rss_mib, read_mib)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(STARTERS[sys.argv[1]]))))
