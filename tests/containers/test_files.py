"""What lies in the images: each file that an image adds to its base, and what a start imports."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

from tests.adapters import Call, ask
from tests.containers.engine import LIMITS, Engine

USER = 65532
ADDED_BYTES_AT_MOST = {"classifier-cloudrun": 190_000_000, "classifier-lambda": 200_000_000}
# The flags of a .pyc (PEP 552): checked by a hash of the source, but unchecked at import.
UNCHECKED_HASH = 0b01
ABSENT = ("torch", "transformers", "huggingface_hub", "pip", "setuptools", "wheel", "ensurepip")
COMPILERS = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|cpp|clang|ld|as|make|rustc|go)(-[0-9.]+)?")


@dataclass(frozen=True)
class File:
    """An entry of an image's file system. `head` are a regular file's first 8 bytes."""

    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    link: str
    digest: bytes = b""
    head: bytes = b""

    @property
    def user_can_write(self) -> bool:
        """For the images' own user; a link has no mode of its own."""
        if self.kind == tarfile.SYMTYPE:
            return False
        owned, grouped = self.uid == USER, self.gid == USER
        return bool(self.mode & (0o002 | owned * 0o200 | grouped * 0o020))

    @property
    def unchecked(self) -> bool:
        return int.from_bytes(self.head[4:8], "little") == UNCHECKED_HASH


Files = Mapping[PurePosixPath, File]


def files_of(engine: Engine, image: str) -> Files:
    with engine.files(image) as archive:
        return {PurePosixPath("/", entry.name): describe(archive, entry) for entry in archive}


def describe(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> File:
    found = (entry.type, entry.mode, entry.uid, entry.gid, entry.size, entry.linkname)
    stream = archive.extractfile(entry) if entry.isreg() else None
    if stream is None:
        return File(*found)
    content = stream.read()
    return File(*found, hashlib.sha256(content).digest(), content[:8])


@pytest.fixture(scope="module")
def base(engine: Engine, base_image: str) -> Files:
    return files_of(engine, base_image)


@pytest.fixture(scope="module")
def whole(engine: Engine, image: str) -> Files:
    return files_of(engine, image)


@pytest.fixture(scope="module")
def added(base: Files, whole: Files) -> Files:
    """What the image adds to its base or changes there, directories and links too."""
    return {path: file for path, file in whole.items() if base.get(path) != file}


def named(files: Files, names: tuple[str, ...]) -> list[str]:
    return [str(path) for path in files if set(path.parts) & set(names)]


def test_no_package_is_there_that_serving_does_not_need(whole: Files) -> None:
    assert named(whole, ABSENT) == []
    metadata = re.compile(rf"({'|'.join(ABSENT)})-.*\.(dist|egg)-info")
    assert [path for path in whole if metadata.fullmatch(path.name)] == []


def test_no_such_package_can_be_imported(engine: Engine, image: str) -> None:
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    found = engine.finish(image, "-c", code, *ABSENT, options=("--entrypoint", "python"))
    assert (found.exit_code, found.stdout.strip()) == (0, "[]"), found.stderr


def test_no_compiler_is_there(whole: Files) -> None:
    programs = [path for path in whole if path.parent.name in ("bin", "sbin")]
    assert programs
    assert [str(path) for path in programs if COMPILERS.fullmatch(path.name)] == []


def test_no_tests_and_no_stubs_are_added(added: Files) -> None:
    assert named(added, ("tests", "test", "testing", "conftest.py")) == []
    assert [str(path) for path in added if path.suffix in (".pyi", ".pxd", ".h", ".c")] == []


def test_nothing_of_the_checkout_but_the_server_and_its_model(added: Files) -> None:
    below_app = {path.relative_to("/app") for path in added if path.is_relative_to("/app")}
    assert {path.parts[0] for path in below_app if path.parts} == {"core", "handlers", "models"}
    models = {
        path.parts[1] for path in below_app if path.parts[:1] == ("models",) and path.parts[1:]
    }
    assert models == {"default"}
    assert named(added, (".git", ".dockerignore", "requirements", "build")) == []
    assert [str(path) for path in added if re.search("requirements.*txt", path.name)] == []


def test_nothing_that_is_added_raises_privileges(added: Files) -> None:
    assert [str(path) for path, file in added.items() if file.mode & 0o6000] == []


def test_nothing_that_is_added_can_be_written_by_its_user(added: Files) -> None:
    assert [str(path) for path, file in added.items() if file.user_can_write] == []


def test_everything_that_is_added_can_be_read_by_any_user(added: Files) -> None:
    unreadable = [
        str(path)
        for path, file in added.items()
        if file.kind != tarfile.SYMTYPE and not file.mode & 0o004
    ]
    assert unreadable == []


def test_every_pyc_that_is_added_is_taken_unchecked(added: Files) -> None:
    compiled = {path: file for path, file in added.items() if path.suffix == ".pyc"}
    assert len(compiled) > 300
    assert [str(path) for path, file in compiled.items() if not file.unchecked] == []


def test_every_source_that_is_added_is_compiled(added: Files) -> None:
    sources = [path for path in added if path.suffix == ".py"]
    assert len(sources) > 100
    assert [str(path) for path in sources if pyc_of(path) not in added] == []


def pyc_of(source: PurePosixPath) -> PurePosixPath:
    return source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"


def test_the_size_that_is_added(image: str, added: Files) -> None:
    size = sum(file.size for file in added.values())
    assert 50_000_000 < size < ADDED_BYTES_AT_MOST[image], f"{size / 1e6:.1f} MB"


def test_cloud_runs_start_compiles_nothing(engine: Engine, cloudrun_image: str) -> None:
    options = (*LIMITS, "--env", "PYTHONVERBOSE=1")
    with engine.server(cloudrun_image, options=options) as (container, port):
        assert ask(port, Call("POST", "/predict", b'{"text": "a"}')).status == 200
        told = container.logs()
    check_imports(files_of(engine, cloudrun_image), told)


def test_lambdas_start_compiles_nothing(engine: Engine, lambda_image: str) -> None:
    # The runtime interface client imports the handler, then asks for an event and gets none.
    nobody = ("--env", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9", "--env", "PYTHONVERBOSE=1")
    started = engine.finish(lambda_image, options=(*LIMITS, *nobody))
    assert "model loaded" in started.stdout + started.stderr
    check_imports(files_of(engine, lambda_image), started.stderr)


def check_imports(files: Files, told: str) -> None:
    """Judges what `python -v` told: each module came from an unchecked .pyc, none from source."""
    assert sorted(set(re.findall(r"# code object from ([^'\s]\S*\.py)$", told, re.M))) == []
    loaded = set(map(PurePosixPath, re.findall(r"# code object from '(\S+\.pyc)'$", told, re.M)))
    for kind in ("/app/core", "/app/handlers", "/usr/local/lib/python3.11/site-packages"):
        assert any(path.is_relative_to(kind) for path in loaded), kind
    assert len(loaded) > 300
    assert list(unverified(files, loaded)) == []


def unverified(files: Files, loaded: set[PurePosixPath]) -> Iterator[str]:
    for path in sorted(loaded):
        if path not in files or not files[path].unchecked:
            yield str(path)
