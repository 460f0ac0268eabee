"""Process start to first correct answer, side by side, with memory and what was read.

    python -m benchmarks.cold_start --repeats 10
    python -m benchmarks.cold_start --images podman --dropped       both images too, cold page cache

The servers take turns, so that a noisy moment of the machine hits all alike; ratios are of the
times within one turn, and the median of them is told. An image's process is timed inside its
container: what the engine itself takes is not ours. `--dropped` empties the page cache before each
start, which needs root. Where strace is, the files that a start opens are counted, in one more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from tqdm import trange

from benchmarks import report
from benchmarks.checkpoints import distilbert_checkpoint, torch_checkpoint
from benchmarks.files import count_opened
from benchmarks.servers import ROOT, STARTERS, Starter, plain_torch
from benchmarks.start import LABEL, Start, measure

DISTILBERT, TORCH, ONNX = "plain torch, DistilBERT", "plain torch", "plain ONNX"
IMAGES = {"classifier-cloudrun": "ours, Cloud Run", "classifier-lambda": "ours, Lambda"}


def image_start(engine: str, image: str) -> Start:
    """A start inside the image's container, with its own Python, packages, model and code."""
    mounts = [
        f"--volume={ROOT / folder}:/app/{folder}:ro" for folder in ("benchmarks", "tests/events")
    ]
    command = [engine, "run", "--rm", "--network=none", *mounts, "--entrypoint=python", image]
    done = subprocess.run(
        [*command, "-m", "benchmarks.start", IMAGES[image]],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def starters() -> dict[str, tuple[Starter, str | None]]:
    """What is started on this machine, by name, and how it must call the text; plain ones first."""
    checkpoint, real = torch_checkpoint()
    return {
        DISTILBERT: (partial(plain_torch, distilbert_checkpoint()), None),
        **{name: (starter, LABEL) for name, starter in STARTERS.items()},
        TORCH: (partial(plain_torch, checkpoint), LABEL if real else None),
    }


def measures(engine: str | None) -> dict[str, Callable[[], Start]]:
    """Those and the images, each ready to be measured."""
    found: dict[str, Callable[[], Start]] = {
        name: partial(measure, starter, label) for name, (starter, label) in starters().items()
    }
    if engine:
        for image in IMAGES:
            found[f"{IMAGES[image]} image"] = partial(image_start, engine, image)
    return found


def compare(repeats: int, engine: str | None, dropped: bool) -> dict[str, list[Start]]:
    """`repeats` turns of every server, after one that is not counted."""
    chosen = measures(engine)
    starts: dict[str, list[Start]] = {name: [] for name in chosen}
    for turn in trange(repeats + 1, desc="cold start"):
        for name, start in chosen.items():
            if dropped:
                _drop_page_cache()
            found = start()
            if turn > 0:
                starts[name].append(found)
    return starts


def _drop_page_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def figures(starts: dict[str, list[Start]]) -> dict[str, dict[str, float]]:
    """Medians by server; ratios are how many times faster than each plain design."""
    result = {}
    for name, measured in starts.items():
        seconds = [start.seconds for start in measured]
        result[name] = {
            "median_s": median(seconds),
            "min_s": min(seconds),
            "max_s": max(seconds),
            "against_distilbert": _ratio(starts[DISTILBERT], measured),
            "against_plain_torch": _ratio(starts[TORCH], measured),
            "against_plain_onnx": _ratio(starts[ONNX], measured),
            "pss_mib": median(start.pss_mib for start in measured),
            "rss_mib": median(start.rss_mib for start in measured),
            "read_mib": median(start.read_mib for start in measured),
        }
    return result


def _ratio(baseline: Sequence[Start], ours: Sequence[Start]) -> float:
    return median(a.seconds / b.seconds for a, b in zip(baseline, ours, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--images", metavar="ENGINE", help="measure both built images too")
    parser.add_argument("--dropped", action="store_true", help="empty the page cache each time")
    options = parser.parse_args(arguments)
    found = figures(compare(options.repeats, options.images, options.dropped))
    opened = {name: count_opened(starter) for name, (starter, _) in starters().items()}
    for name, count in opened.items():
        if count is not None:
            found[name]["files_opened"] = count
    rows = [
        [
            name,
            f"{row['median_s']:.2f} s ({row['min_s']:.2f} to {row['max_s']:.2f})",
            f"{row['against_distilbert']:.1f}",
            f"{row['against_plain_torch']:.1f}",
            f"{row['against_plain_onnx']:.1f}",
            f"{row['pss_mib']:.0f} MiB",
            f"{row['rss_mib']:.0f} MiB",
            f"{row['read_mib']:.1f} MiB",
            f"{row.get('files_opened', float('nan')):.0f}",
        ]
        for name, row in found.items()
    ]
    against = [f"x {name}" for name in (DISTILBERT, TORCH, ONNX)]
    header = ["server", "first answer", *against, "PSS", "RSS", "disk read", "files opened"]
    print(report.table(header, rows))
    print(report.save("cold_start_dropped" if options.dropped else "cold_start", found))


if __name__ == "__main__":
    main()
