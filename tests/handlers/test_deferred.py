"""Deferred modules: not imported until they are used, then the real ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from handlers.deferred import ENGINE, FASTAPI, FLASK, GUNICORN
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


def test_a_module_of_a_package_that_is_there_becomes_its_attribute(tmp_path: Path) -> None:
    program = """
import pack
defer(["pack.heavy"])
import pack.heavy
before = pack.heavy.double(4)
from pack import heavy
result = [before, pack.heavy.loaded, type(heavy).__name__]
"""
    assert run(tmp_path, program) == [8, True, "module"]


def test_what_is_known_of_a_module_does_not_import_it(tmp_path: Path) -> None:
    program = """
KNOWN["pack.heavy"] = {"double": lambda n: n + n}
defer(["pack.heavy"])
from pack.heavy import double
before = [double(4), isinstance(sys.modules["pack.heavy"], DeferredModule)]
from pack.heavy import Base
result = [*before, Base.x, isinstance(sys.modules["pack.heavy"], DeferredModule)]
"""
    assert run(tmp_path, program) == [8, True, 1, False]


def test_one_use_makes_all_modules_real(tmp_path: Path) -> None:
    program = """
defer(["pack.heavy", "json.tool"])
from pack.heavy import double
double(1)
import json.tool
result = [type(json.tool).__name__]
"""
    assert run(tmp_path, program) == ["module"]


@pytest.mark.parametrize(
    ("adapter", "modules"),
    [("cloud_run", ENGINE + GUNICORN + FLASK), ("lambda", ENGINE + FASTAPI)],
)
def test_a_process_serves_with_its_modules_still_deferred(
    adapter: str, modules: tuple[str, ...]
) -> None:
    """Otherwise the lists are stale: something imports at start what they mean to spare."""
    program = f"""
import gc, json, sys
from handlers.deferred import DeferredModule
{PROGRAMS[adapter]}
assert gc.isenabled() and gc.get_freeze_count() > 10_000
print(json.dumps([n for n, m in sys.modules.items() if type(m) is DeferredModule]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout.splitlines()[-1])) == set(modules)


PROGRAMS = {
    "cloud_run": """
import io, socket
from core.settings import Settings
from handlers.deferred import ENGINE, defer
defer(ENGINE)
from handlers.server import Server
app = Server(Settings.from_env({}), socket.socket()).wsgi()
body = b'{"text": "have a lovely day"}'
environ = {
    "REQUEST_METHOD": "POST", "PATH_INFO": "/predict", "SERVER_NAME": "x", "SERVER_PORT": "80",
    "wsgi.url_scheme": "http", "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
}
status = []
list(app(environ, lambda line, headers: status.append(line)))
assert status == ["200 OK"], status
""",
    "lambda": """
from handlers.aws_lambda import handler
class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 30000)
event = json.load(open("tests/events/http_api_v2.json"))
assert handler(event, Context())["statusCode"] == 200
""",
}
