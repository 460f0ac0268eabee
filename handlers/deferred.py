"""Modules that a framework imports but serving does not use, imported when they are used.

`import flask` also imports a development server, a template engine and a test client; `import
fastapi` builds the models of OpenAPI. Every cold start would pay for them. `defer` puts a stand-in
into `sys.modules`: `from module import name` then binds a stand-in for the name, and the real one
is imported when it is called, read or subclassed. What it cannot stand in for is a class in
`except` or `isinstance`; the tests run the whole contract with the modules below deferred.

May import: the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

# Of functions_framework and flask: the development server, the test client, templates, CloudEvents.
FLASK = (
    "cloudevents",
    "cloudevents.exceptions",
    "cloudevents.http",
    "cloudevents.http.event",
    "flask.templating",
    "flask.testing",
    "jinja2",
    "jinja2.loaders",
    "werkzeug.serving",
    "werkzeug.test",
)
# Of fastapi: the models of OpenAPI documents, security schemes, telemetry.
FASTAPI = (
    "fastapi.openapi.models",
    "fastapi.openapi.utils",
    "fastapi.security",
    "fastapi.security.base",
    "fastapi.security.oauth2",
    "fastapi.security.open_id_connect_url",
    "opentelemetry._logs",
    "opentelemetry.metrics",
    "opentelemetry.propagate",
    "opentelemetry.trace",
)


class DeferredModule(ModuleType):
    """Stands in for a module until one of its names is used."""

    __path__: list[str] = []  # noqa: RUF012  (what makes it a package to the import system)

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
        if isinstance(sys.modules.get(self._module), DeferredModule):
            _restore(self._module.partition(".")[0])
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
        sys.modules.setdefault(name, DeferredModule(name))


def _restore(package: str) -> None:
    """Takes the package's stand-ins away: its real modules need one another for real."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, DeferredModule) and name.partition(".")[0] == package:
            del sys.modules[name]
