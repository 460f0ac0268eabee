"""Modules that a framework imports but serving does not use, imported when they are used.

`import flask` also imports a development server, a template engine and a test client; `import
fastapi` builds the models of OpenAPI with pydantic. Every cold start would pay for them. `defer`
puts a stand-in into `sys.modules`: `from module import name` then binds a stand-in for the name,
and the real one is imported when it is called, read or subclassed. What it cannot stand in for is a
class in `except` or `isinstance`; the tests run the whole contract with the modules below deferred.

May import: the standard library.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

# Of functions_framework and flask: the development server and its commands, the test client,
# templates, signed cookies, forms, CloudEvents.
FLASK = (
    "click",
    "cloudevents",
    "cloudevents.exceptions",
    "cloudevents.http",
    "cloudevents.http.event",
    "flask.cli",
    "flask.templating",
    "flask.testing",
    "itsdangerous",
    "jinja2",
    "jinja2.loaders",
    "werkzeug.sansio.multipart",
    "werkzeug.serving",
    "werkzeug.test",
)
# Of the engine's packages: docstrings, linear algebra (and its library), histograms, files and the
# like, ways to train a tokenizer.
_NUMPY_LIB = (
    "numpy.lib._arraypad_impl",
    "numpy.lib._arraysetops_impl",
    "numpy.lib._histograms_impl",
    "numpy.lib._nanfunctions_impl",
    "numpy.lib._npyio_impl",
    "numpy.lib._polynomial_impl",
)
ENGINE = (
    "numpy._core._add_newdocs",
    "numpy._core._add_newdocs_scalars",
    *_NUMPY_LIB,
    "numpy.linalg",
    "tokenizers.implementations",
)


class NoTlsError(OSError):
    """Stands in `except` clauses for TLS's errors; nothing here is encrypted, so never raised."""


# Of gunicorn: the master, TLS, and what finds plugins by their entry points.
GUNICORN = ("gunicorn.arbiter", "importlib.metadata", "ssl")
# Of starlette: status texts. Of fastapi: what reads and checks parameters and forms, with all of
# pydantic, the models of OpenAPI documents, security schemes, telemetry. Its routes here take
# requests and return responses.
FASTAPI = (
    "fastapi._compat",
    "fastapi._form_limits",
    "fastapi.dependencies.models",
    "fastapi.dependencies.utils",
    "fastapi.encoders",
    "fastapi.exception_handlers",
    "fastapi.exceptions",
    "fastapi.openapi.models",
    "fastapi.openapi.utils",
    "fastapi.param_functions",
    "fastapi.params",
    "fastapi.security",
    "fastapi.security.base",
    "fastapi.security.oauth2",
    "fastapi.security.open_id_connect_url",
    "fastapi.sse",
    "fastapi.types",
    "fastapi.utils",
    "http.client",
    "opentelemetry._logs",
    "opentelemetry.metrics",
    "opentelemetry.propagate",
    "opentelemetry.trace",
    "pydantic",
)
# Names of them that are used while a framework is imported, and what they stand for until then.
KNOWN: dict[str, dict[str, Any]] = {
    # It is given no limits for forms, and checks that.
    "fastapi._form_limits": {"_validate_form_limits": lambda limits: limits or {}},
    # An application has a group of commands; none is called here.
    "flask.cli": {"AppGroup": SimpleNamespace},
    # For `from numpy import *`.
    **{name: {"__all__": ()} for name in _NUMPY_LIB},
    # Defaults of gunicorn's settings, and what it would catch.
    "ssl": {
        "CERT_NONE": 0,
        "PROTOCOL_TLS": 2,
        "SSLError": NoTlsError,
        "SSLWantReadError": NoTlsError,
    },
}
_restoring = threading.RLock()


class DeferredModule(ModuleType):
    """Stands in for a module until one of its names is used."""

    __path__: list[str] = []  # noqa: RUF012  (what makes it a package to the import system)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # `import package.module` alone binds the package, of which the module is an attribute.
        self.package, _, self.child = name.rpartition(".")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return DeferredName(self.__name__, name)


class DeferredName:
    """Stands in for `module.name`; whatever is done with it is done with the real one."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def _real(self) -> Any:
        with _restoring:
            if isinstance(sys.modules.get(self._module), DeferredModule):
                _restore()
        return getattr(import_module(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what `typing` asks of everything in an annotation
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __or__(self, other: Any) -> Any:
        return Any

    __ror__ = __or__


def defer(modules: Iterable[str]) -> None:
    """Defers those of `modules` that are not imported yet."""
    for name in modules:
        if name not in sys.modules:
            sys.modules[name] = stand_in = DeferredModule(name)
            vars(stand_in).update(KNOWN.get(name, {}))
            if package := sys.modules.get(stand_in.package):
                setattr(package, stand_in.child, stand_in)


def _restore() -> None:
    """Takes all stand-ins away: the real modules need one another for real."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, DeferredModule):
            del sys.modules[name]
            package = sys.modules.get(module.package)
            if package and vars(package).get(module.child) is module:
                delattr(package, module.child)
