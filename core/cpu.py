"""How many processors this process may really use: its affinity, capped by its cgroup's quota.

`os.cpu_count()` tells the host's processors; a container with a quota of one CPU that starts a
thread for each of them is throttled. May import: the standard library.
"""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cpus(cgroup_root: Path = CGROUP_ROOT) -> int:
    """Whole processors, at least 1; a quota of 1.5 CPUs counts as 2."""
    usable = len(os.sched_getaffinity(0))
    quota = _quota_v2(cgroup_root) or _quota_v1(cgroup_root)
    return max(1, min(usable, ceil(quota)) if quota else usable)


def _quota_v2(root: Path) -> float | None:
    """`cpu.max` holds "QUOTA PERIOD" in microseconds, or "max PERIOD" (kernel's cgroup-v2.rst)."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(root: Path) -> float | None:
    """`cpu.cfs_quota_us` is -1 where there is no limit."""
    try:
        quota = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((root / "cpu" / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
