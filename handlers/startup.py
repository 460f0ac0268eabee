"""When this process began, for the figures of a cold start, and when its start is over.

May import: the standard library.
"""

from __future__ import annotations

import gc
import os
from time import CLOCK_BOOTTIME, clock_gettime


def process_start_s(pid: int | str = "self") -> float:
    """Seconds since boot at which the kernel started a process (proc(5), field 22 of stat).

    Good to a tick of 10 ms; now, where there is no telling.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return clock_gettime(CLOCK_BOOTTIME)


_origin_s = process_start_s()


def since_start_ms() -> float:
    """Milliseconds since the process started; of a server's first worker, since its master did."""
    return (clock_gettime(CLOCK_BOOTTIME) - _origin_s) * 1e3


def settle() -> None:
    """Ends the start: garbage is collected again, but never looked for in what was imported."""
    gc.freeze()
    gc.enable()


def restart() -> None:
    """Counts from now: for a worker that is forked long after its master started."""
    global _origin_s
    _origin_s = clock_gettime(CLOCK_BOOTTIME)
