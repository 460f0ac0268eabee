"""Makes what an image carries small and quick to start. Runs in a build stage, on its Python.

    prune [--keep PATTERN ...] PACKAGES   removes what serving never reads
    compile DIRECTORY ...                 writes a .pyc beside every source
    library TARGET cloudrun|lambda        starts that server's code once, which must answer, and
                                          writes the .pyc files of the standard library's modules
                                          that it imported to TARGET

The official Python images ship their standard library without .pyc files, and a container's root is
often read-only: without this, every start compiles some 400 modules anew. Hashes are unchecked: an
image's files do not change, and a look at each source would cost a read.

May import: the standard library.
"""

from __future__ import annotations

import argparse
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.util import cache_from_source
from pathlib import Path

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"

# Below the packages' directory. Each was found with the tests of the images: they call every route.
UNREAD = (
    "bin",
    # Run at every start of the interpreter; these serve installers only.
    "*.pth",
    # ONNX Runtime: its C library stands beside the Python binding, which does not link it; the rest
    # are tools of export and training.
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/ThirdPartyNotices.txt",
    # numpy: what `import numpy` does not import.
    "numpy/f2py",
    "numpy/distutils",
    "numpy/testing",
    "numpy/_pyinstaller",
    "numpy/doc",
    "numpy/typing",
    "numpy/random",
    "numpy/fft",
    "numpy/polynomial",
    "numpy/_core/include",
    "numpy/_core/lib",
    # Cloud Run's front: reloading and ASGI, which this server does not use, and types.
    "watchdog*",
    "uvicorn*",
    "uvicorn_worker*",
    "anyio*",
    "h11*",
    "idna*",
    "starlette*",
    "typing_extensions*",
)
# One start and one request of each kind; an answer other than 200 fails the build.
STARTS = {
    "cloudrun": """
import handlers.serve, handlers.server, socket
from concurrent.futures import ThreadPoolExecutor
from core.settings import Settings
client = handlers.server.Server(Settings.from_env({}), socket.socket()).wsgi().test_client()
answer = client.post("/predict", json={"text": "have a lovely day"})
assert answer.status_code == 200, answer.data
for path in ("/", "/docs", "/health", "/health/live", "/model", "/metrics", "/openapi.json"):
    assert client.get(path).status_code == 200, path
""",
    "lambda": """
import awslambdaric.__main__, awslambdaric.bootstrap
from handlers.aws_lambda import handler
class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 30_000)
def status(method, path, body=None):
    http = {"method": method, "path": path, "sourceIp": "127.0.0.1"}
    headers = {"content-type": "application/json"}
    event = {"version": "2.0", "requestContext": {"http": http}, "headers": headers, "body": body}
    return handler(event, Context)["statusCode"]
assert status("POST", "/predict", '{"text": "have a lovely day"}') == 200
for path in ("/", "/docs", "/health", "/health/live", "/model", "/metrics", "/openapi.json"):
    assert status("GET", path) == 200, path
""",
}
UNREAD_ANYWHERE = (
    "**/conftest.py",
    "**/tests",
    "**/test",
    "**/*.pyi",
    "**/*.pxd",
    "**/*.h",
    "**/*.c",
    "**/*.md",
)


def prune(packages: Path, kept: Sequence[str]) -> None:
    """Removes from `packages` what `UNREAD` and `UNREAD_ANYWHERE` name, but for `kept`."""
    for pattern in (*UNREAD, *UNREAD_ANYWHERE):
        if pattern in kept:
            continue
        for path in sorted(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def compile_tree(directory: Path) -> None:
    """Compiles every source below `directory` beside itself; Python mends their paths at import."""
    for source in sorted(directory.rglob("*.py")):
        _compile(source, Path(cache_from_source(str(source))))


def compile_library(target: Path, server: str) -> None:
    """Compiles the standard library's modules that a start of `server` imports, to `target`.

    `target` gets the layout of the library's own folder, so that it can be laid over it.
    """
    library = Path(sysconfig.get_path("stdlib"))
    with tempfile.TemporaryDirectory() as traced:
        environment = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
        # Python itself tells what was imported: it writes a .pyc for each module below this folder.
        environment["PYTHONPYCACHEPREFIX"] = traced
        subprocess.run([sys.executable, "-c", STARTS[server]], env=environment, check=True)
        mirrored = Path(traced) / library.relative_to("/")
        for pyc in sorted(mirrored.rglob("*.pyc")):
            relative = pyc.relative_to(mirrored)
            source = library / relative.parent / (relative.name.partition(".")[0] + ".py")
            if "site-packages" not in relative.parts:
                compiled = target / relative.parent / "__pycache__" / relative.name
                _compile(source, compiled)


def _compile(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source),
        cfile=str(target),
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pruning = commands.add_parser("prune")
    pruning.add_argument("packages", type=Path)
    pruning.add_argument("--keep", nargs="*", default=[])
    compiling = commands.add_parser("compile")
    compiling.add_argument("directories", type=Path, nargs="+")
    library = commands.add_parser("library")
    library.add_argument("target", type=Path)
    library.add_argument("server", choices=STARTS)
    options = parser.parse_args()
    if options.command == "prune":
        prune(options.packages, options.keep)
    elif options.command == "compile":
        for directory in options.directories:
            compile_tree(directory)
    else:
        compile_library(options.target, options.server)


if __name__ == "__main__":
    main()
