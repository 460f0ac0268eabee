"""Deferred modules: not imported until they are used, then the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from handlers.deferred import FASTAPI, FLASK
from tests.adapters import ROOT

PACKAGE = {
    "__init__.py": "",
    "heavy.py": """
loaded = True
class Base:
    x = 1
def double(n):
    return 2 * n
TABLE = {"a": 3}
""",
    "other.py": "from pack.heavy import double\n",
}


def run(directory: Path, program: str) -> list[object]:
    """What the program leaves in `result`, run where the package `pack` lies."""
    for name, source in PACKAGE.items():
        (directory / "pack").mkdir(exist_ok=True)
        (directory / "pack" / name).write_text(source)
    head = "import sys, json\nfrom handlers.deferred import *\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{head}{program}\nprint(json.dumps(result))"],
        cwd=directory,
        env={"PYTHONPATH": f"{ROOT}:{directory}"},
        capture_output=True,
        text=True,
        check=True,
    )
    result: list[object] = json.loads(done.stdout)
    return result


def test_a_deferred_module_is_imported_when_its_names_are_used(tmp_path: Path) -> None:
    program = """
defer(["pack.heavy"])
from pack.heavy import double, Base, TABLE
before = isinstance(sys.modules["pack.heavy"], DeferredModule)
class Mine(Base): pass
result = [before, double(4), Mine.x, Mine.__mro__[1].__name__, TABLE.get("a")]
result += [isinstance(sys.modules["pack.heavy"], DeferredModule)]
"""
    assert run(tmp_path, program) == [True, 8, 1, "Base", 3, False]


def test_names_bound_through_another_module_work_too(tmp_path: Path) -> None:
    program = """
defer(["pack.heavy"])
import pack.other
result = [pack.other.double(5)]
"""
    assert run(tmp_path, program) == [10]


def test_what_is_imported_already_stays(tmp_path: Path) -> None:
    program = """
import pack.heavy
defer(["pack.heavy"])
result = [sys.modules["pack.heavy"].loaded]
"""
    assert run(tmp_path, program) == [True]


def test_annotations_do_not_import_it(tmp_path: Path) -> None:
    program = """
defer(["pack.heavy"])
from typing import Callable, Optional
from pack.heavy import Base
def f(x: Base | None, y: Optional[Base], z: Callable[[Base], None], w: None | Base): pass
result = [isinstance(sys.modules["pack.heavy"], DeferredModule)]
"""
    assert run(tmp_path, program) == [True]


def test_the_frameworks_serve_with_their_modules_still_deferred() -> None:
    """Otherwise the lists are stale: something imports at start what they mean to spare."""
    for modules, serve in ((FLASK, CLOUD_RUN), (FASTAPI, LAMBDA)):
        program = f"import sys, json\nfrom handlers.deferred import *\n{serve}"
        program += (
            "\nprint(json.dumps([n for n, m in sys.modules.items() if type(m) is DeferredModule]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert set(json.loads(done.stdout.splitlines()[-1])) == set(modules)


CLOUD_RUN = """
defer(FLASK)
import functions_framework, io
app = functions_framework.create_app("classify", "handlers/cloudrun.py")
body = b'{"text": "have a lovely day"}'
environ = {
    "REQUEST_METHOD": "POST", "PATH_INFO": "/predict", "SERVER_NAME": "x", "SERVER_PORT": "80",
    "wsgi.url_scheme": "http", "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
}
status = []
list(app(environ, lambda line, headers: status.append(line)))
assert status == ["200 OK"], status
"""
LAMBDA = """
from handlers.aws_lambda import handler
class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 30000)
event = json.load(open("tests/events/http_api_v2.json"))
assert handler(event, Context())["statusCode"] == 200
"""
