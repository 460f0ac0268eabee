"""Makes what an image carries small and quick to start. Runs in a build stage, on its Python.

    python prepare_image.py prune PACKAGES      removes what serving never reads
    python prepare_image.py compile TARGET DIRECTORY...
                                                writes .pyc files for the standard library's modules
                                                that a start imports to TARGET, and in place for
                                                every source below each DIRECTORY

The official Python images ship their standard library without .pyc files, and a container's root is
often read-only: without this, every start compiles some 400 modules anew. Hashes are unchecked: an
image's files do not change, and a look at each source would cost a read.

May import: the standard library.
"""

from __future__ import annotations

import py_compile
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

# Below the packages' directory. Each was found with the tests of the images: they call every route.
UNREAD = (
    "bin",
    # ONNX Runtime: its C library stands beside the Python binding, which does not link it; the rest
    # are tools of export and training.
    "onnxruntime/capi/libonnxruntime.so*",
    "onnxruntime/capi/onnxruntime_validation.py",
    "onnxruntime/capi/training",
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
    "numpy/random/lib",
    # Cloud Run's front: reloading and ASGI, which this server does not use.
    "watchdog*",
    "uvicorn*",
    "uvicorn_worker*",
    "anyio*",
    "h11*",
    "idna*",
    "starlette*",
)
# Of the Lambda front's packages these are needed there.
KEPT_FOR_LAMBDA = ("anyio*", "idna*", "starlette*")
UNREAD_ANYWHERE = ("**/tests", "**/test", "**/*.pyi", "**/*.pxd", "**/*.h", "**/*.c", "**/*.md")


def prune(packages: Path, kept: Iterable[str] = ()) -> None:
    """Removes from `packages` what `UNREAD` and `UNREAD_ANYWHERE` name, but for `kept`."""
    patterns = [pattern for pattern in (*UNREAD, *UNREAD_ANYWHERE) if pattern not in kept]
    for pattern in patterns:
        for path in list(packages.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def compile_standard_library(target: Path, names: Iterable[str]) -> None:
    """Writes the .pyc of each named module to `target`, in the layout of the library's folder."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in names:
        source = Path(name)
        if source.suffix == ".py" and library in source.parents:
            cached = Path(sys.implementation.cache_tag).with_suffix("")
            relative = source.relative_to(library)
            compiled = relative.parent / "__pycache__" / f"{relative.stem}.{cached}.pyc"
            _compile(source, target / compiled)


def compile_tree(directory: Path) -> None:
    """Compiles every source below `directory` beside itself."""
    for source in sorted(directory.rglob("*.py")):
        _compile(source, None)


def _compile(source: Path, target: Path | None) -> None:
    py_compile.compile(
        str(source),
        cfile=str(target) if target else None,
        doraise=True,
        quiet=2,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
