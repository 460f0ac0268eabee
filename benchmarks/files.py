"""How many files a start opens, told by strace; the start is slower for it and is not timed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.servers import Starter
from benchmarks.start import TEXT


def count_opened(starter: Starter) -> int | None:
    """Different files that the server's processes opened until the first answer; directories too.

    None where there is no strace.
    """
    if not shutil.which("strace"):
        return None
    with tempfile.NamedTemporaryFile() as log:
        watched = ["strace", "-f", "-qq", "-z", "-e", "trace=open,openat", "-o", log.name]
        with starter(wrap=lambda command: [*watched, *command]) as server:
            server.predict(TEXT)
        paths = {
            line.split('"')[1] for line in Path(log.name).read_text().splitlines() if '"' in line
        }
    return len([path for path in paths if not path.startswith(("/proc/", "/sys/", "/dev/"))])
