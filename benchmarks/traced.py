"""Runs a server's module and notes when what it imports was imported: `waterfall` draws it.

    python -m benchmarks.traced FILE MODULE [ARGUMENT ...]

FILE gets a JSON line for each import of a watched package: its name, begin and end in seconds since
boot. An import within another counts to the outer one. May import: the standard
library, and that late: what this imports, the server's own start finds imported.
"""

import builtins
import json
import runpy
import sys
import threading
from time import CLOCK_BOOTTIME, clock_gettime

# Ours hold these, and functions_framework holds flask: what is imported in them is told.
WATCHED = (
    "awslambdaric",
    "fastapi",
    "flask",
    "gunicorn",
    "mangum",
    "msgspec",
    "numpy",
    "onnxruntime",
    "tokenizers",
)


def main() -> None:
    _, path, module, *arguments = sys.argv
    log = open(path, "a", buffering=1)  # noqa: SIM115  (for as long as the process lives)
    begun = clock_gettime(CLOCK_BOOTTIME)
    log.write(json.dumps(["Python", None, begun]) + "\n")
    real, within = builtins.__import__, threading.local()

    def watch(name, globals=None, locals=None, fromlist=(), level=0):  # type: ignore[no-untyped-def]
        root = name.partition(".")[0]
        if level or root not in WATCHED or getattr(within, "busy", False) or name in sys.modules:
            return real(name, globals, locals, fromlist, level)
        within.busy, begin = True, clock_gettime(CLOCK_BOOTTIME)
        try:
            return real(name, globals, locals, fromlist, level)
        finally:
            within.busy = False
            log.write(json.dumps([root, begin, clock_gettime(CLOCK_BOOTTIME)]) + "\n")

    builtins.__import__ = watch
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
