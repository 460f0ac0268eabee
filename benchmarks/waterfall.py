"""Draws where the time of a real start goes, for both adapters.

    python -m benchmarks.waterfall          writes benchmarks/results/waterfall.svg

Tracing the imports costs the start a few milliseconds: `cold_start` has the figures.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Any

from benchmarks.servers import ROOT, STARTERS
from benchmarks.start import TEXT
from handlers.startup import process_start_s

PICTURE = ROOT / "benchmarks" / "results" / "waterfall.svg"
ADAPTERS = ("ours, Cloud Run", "ours, Lambda")
PHASES = ("artifact", "tokenizer", "engine")


@dataclass(frozen=True)
class Span:
    """What happened from `begin_ms` to `end_ms` since the process's start, in which `lane`."""

    name: str
    lane: str
    begin_ms: float
    end_ms: float


def trace(adapter: str) -> tuple[list[Span], float]:
    """The spans of one start, and when its first answer was there, in milliseconds."""
    with tempfile.NamedTemporaryFile() as log:
        wrap = partial(_traced, log.name)
        with STARTERS[adapter](wrap=wrap) as server:
            server.predict(TEXT)
            answered_s = clock_gettime(CLOCK_BOOTTIME)
            phases = server.health()["startup_ms"]
            start_s = process_start_s(server.process.pid)
        lines = [json.loads(line) for line in Path(log.name).read_text().splitlines()]
    spans = [
        Span(name, "imports", ((begin or start_s) - start_s) * 1e3, (end - start_s) * 1e3)
        for name, begin, end in lines
    ]
    return spans + _loading(phases), (answered_s - start_s) * 1e3


def _traced(log: str, command: list[str]) -> list[str]:
    python, _, *module = command
    return [python, "-m", "benchmarks.traced", log, *module]


def _loading(phases: dict[str, float]) -> list[Span]:
    spans, begin = [], phases["begin"]
    for phase in PHASES:
        spans.append(Span(phase, "model", begin, begin + phases[phase]))
        begin += phases[phase]
    return [*spans, Span("first run", "model", begin, phases["ready"])]


def draw(starts: dict[str, tuple[list[Span], float]]) -> Any:
    """One panel an adapter: the main thread's imports above, the loading of the model below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.6 * len(starts)), layout="constrained")
    panels = figure.subplots(len(starts), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, (spans, answered_ms)) in zip(panels, starts.items(), strict=True):
        for lane, row in (("imports", 1), ("model", 0)):
            for i, span in enumerate(s for s in spans if s.lane == lane):
                width = span.end_ms - span.begin_ms
                panel.barh(row, width, left=span.begin_ms, color=f"C{i % 10}", height=0.5)
                if width > 1:
                    text = f"{span.name} {width:.0f}"
                    centre = span.begin_ms + width / 2
                    panel.text(centre, row + 0.3, text, rotation=35, fontsize=7, va="bottom")
        panel.axvline(answered_ms, color="black", linestyle="--", linewidth=1)
        panel.set_yticks([0, 1], ["model, in its thread", "imports, main thread"])
        panel.set_ylim(-0.4, 2.1)
        panel.set_title(f"{name}: first answer after {answered_ms:.0f} ms", loc="left", fontsize=9)
    panels[-1].set_xlabel("ms since the process started (page cache warm, imports traced)")
    return figure


def main() -> None:
    for adapter in ADAPTERS:
        trace(adapter)  # warms the page cache
    figure = draw({adapter: trace(adapter) for adapter in ADAPTERS})
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    print(PICTURE)


if __name__ == "__main__":
    main()
