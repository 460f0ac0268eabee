"""What every benchmark writes: a Markdown table, and JSON with the machine and the versions."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("onnxruntime", "tokenizers", "torch", "transformers", "fastapi", "functions-framework")


def machine() -> dict[str, Any]:
    """The machine, the date and the versions that the figures belong to."""
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        models = [
            line.partition(":")[2].strip() for line in stream if line.startswith("model name")
        ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(name: str, figures: Any) -> Path:
    """Writes `benchmarks/results/NAME.json` and returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**machine(), "figures": figures}, indent=2) + "\n")
    return path
