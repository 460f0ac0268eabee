"""Memory of a process and all its descendants, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """`pss_mib` counts a page shared by n processes as 1/n each; `rss_mib` counts it n times."""

    pss_mib: float
    rss_mib: float


def memory_of_tree(pid: int) -> Memory:
    """The sums over the process and its descendants (proc(5), smaps_rollup)."""
    totals = {"Pss:": 0, "Rss:": 0}
    for member in _tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            name, *rest = line.split()
            if name in totals:
                totals[name] += int(rest[0])
    return Memory(totals["Pss:"] / 1024, totals["Rss:"] / 1024)


def _tree(pid: int) -> list[int]:
    members = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            members += _tree(int(child))
    return members


def read_from_disk_mib(pid: int) -> float:
    """What the process and its descendants made the disk read (proc(5), io: read_bytes)."""
    total = 0
    for member in _tree(pid):
        for line in Path(f"/proc/{member}/io").read_text().splitlines():
            name, _, value = line.partition(":")
            total += int(value) if name == "read_bytes" else 0
    return total / 2**20
