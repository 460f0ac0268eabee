"""Runs a server's module and notes when what it imports was imported: `waterfall` draws it.

    python -m benchmarks.traced FILE MODULE [ARGUMENT ...]

FILE gets a JSON line for each import of a watched package: its name, the thread's, begin and end in
seconds since boot. An import within another counts to the outer one. May import: the standard
library, and that late: what this imports, the server's own start finds imported.
"""

import builtins
import json
import runpy
import sys
import threading
from time import CLOCK_BOOTTIME, clock_gettime

WATCHED = (
    "awslambdaric",
    "core",
    "fastapi",
    "flask",
    "functions_framework",
    "gunicorn",
    "handlers",
    "mangum",
    "msgspec",
    "numpy",
    "onnxruntime",
    "tokenizers",
)
# Ours hold the others: only what is imported in them is told.
TRANSPARENT = ("core", "handlers", "functions_framework")


def main() -> None:
    _, path, module, *arguments = sys.argv
    log = open(path, "a", buffering=1)  # noqa: SIM115  (for as long as the process lives)
    begun = clock_gettime(CLOCK_BOOTTIME)
    log.write(json.dumps(["Python", "MainThread", None, begun]) + "\n")
    real, within = builtins.__import__, threading.local()

    def watch(name, globals=None, locals=None, fromlist=(), level=0):  # type: ignore[no-untyped-def]
        root = name.partition(".")[0]
        told = level == 0 and root in WATCHED and root not in TRANSPARENT
        if not told or getattr(within, "busy", False) or name in sys.modules:
            return real(name, globals, locals, fromlist, level)
        within.busy, begin = True, clock_gettime(CLOCK_BOOTTIME)
        try:
            return real(name, globals, locals, fromlist, level)
        finally:
            within.busy = False
            span = [root, threading.current_thread().name, begin, clock_gettime(CLOCK_BOOTTIME)]
            log.write(json.dumps(span) + "\n")

    builtins.__import__ = watch
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
