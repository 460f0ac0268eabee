"""The one place that reads the environment, given as a mapping.

May import: `core.cpu`, `core.errors`, the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.cpu import available_cpus
from core.errors import SettingsError

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models" / "default"

Platform = Literal["cloud_run", "lambda", "local"]


@dataclass(frozen=True)
class Settings:
    """How this process runs. Defaults suit both clouds; every value can be set, see the README.

    `threads`: threads of one inference run. `concurrency`: runs at once. `queue_limit`: requests
    that may wait for a run. `deadline_s`: time from a request's arrival to its answer.
    `base_path`: prefix that a gateway puts before every route ("" or "/prod").
    `verify_weights`: hash every byte of the model at the start, not only its small files.
    """

    model: Path
    verify_weights: bool
    threads: int
    concurrency: int
    queue_limit: int
    deadline_s: float
    base_path: str
    port: int
    workers: int
    platform: Platform
    google_cloud_project: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Raises `SettingsError` naming the variable, its value and what is accepted."""
        cpus = available_cpus()
        return cls(
            model=_path(environ, "CLASSIFIER_MODEL", DEFAULT_MODEL),
            verify_weights=_one_of(environ, "CLASSIFIER_VERIFY", ("quick", "full")) == "full",
            threads=_integer(environ, "CLASSIFIER_THREADS", cpus, 1, 256),
            concurrency=_integer(environ, "CLASSIFIER_CONCURRENCY", cpus, 1, 256),
            queue_limit=_integer(environ, "CLASSIFIER_QUEUE", 64, 0, 1000),
            deadline_s=_seconds(environ, "CLASSIFIER_DEADLINE_S", 25.0, 0.01, 3600.0),
            base_path=_base_path(environ, "CLASSIFIER_BASE_PATH"),
            port=_integer(environ, "PORT", 8080, 1, 65535),
            workers=_integer(environ, "CLASSIFIER_WORKERS", 1, 1, 64),
            platform=_platform(environ),
            google_cloud_project=environ.get("GOOGLE_CLOUD_PROJECT", ""),
        )


def _platform(environ: Mapping[str, str]) -> Platform:
    """Cloud Run sets K_SERVICE, Lambda sets AWS_LAMBDA_FUNCTION_NAME (their runtime contracts)."""
    if environ.get("AWS_LAMBDA_FUNCTION_NAME"):
        return "lambda"
    return "cloud_run" if environ.get("K_SERVICE") else "local"


def _refuse(name: str, value: str, accepted: str) -> SettingsError:
    return SettingsError(f"{name}={value!r} is not accepted: {accepted}")


def _path(environ: Mapping[str, str], name: str, default: Path) -> Path:
    value = environ.get(name)
    if not value:
        return default
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _refuse(name, value, "a path in UTF-8 is") from error
    return Path(value)


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = environ.get(name)
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise _refuse(name, value, f"a whole number from {low} to {high} is")
    return int(value)


def _seconds(
    environ: Mapping[str, str], name: str, default: float, low: float, high: float
) -> float:
    value = environ.get(name)
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or not low <= float(value) <= high:
        raise _refuse(name, value, f"seconds from {low:g} to {high:g} are")
    return float(value)


def _one_of(environ: Mapping[str, str], name: str, accepted: tuple[str, ...]) -> str:
    """The first of `accepted` is the default."""
    value = environ.get(name) or accepted[0]
    if value not in accepted:
        raise _refuse(name, value, f"{' or '.join(accepted)} is")
    return value


def _base_path(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if value and not re.fullmatch(r"(/[A-Za-z0-9._~$-]+)+", value):
        raise _refuse(name, value, "a path such as /prod, with no slash at its end, is")
    return value
