"""Settings: defaults, accepted and refused values, and what a refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.cpu import available_cpus
from core.errors import SettingsError
from core.settings import DEFAULT_MODEL, Settings

ACCEPTED = [
    ("CLASSIFIER_MODEL", "/srv/model", "model", Path("/srv/model")),
    ("CLASSIFIER_VERIFY", "quick", "verify_weights", False),
    ("CLASSIFIER_VERIFY", "full", "verify_weights", True),
    ("CLASSIFIER_THREADS", "1", "threads", 1),
    ("CLASSIFIER_THREADS", "256", "threads", 256),
    ("CLASSIFIER_CONCURRENCY", "1", "concurrency", 1),
    ("CLASSIFIER_CONCURRENCY", "256", "concurrency", 256),
    ("CLASSIFIER_QUEUE", "0", "queue_limit", 0),
    ("CLASSIFIER_QUEUE", "1000", "queue_limit", 1000),
    ("CLASSIFIER_DEADLINE_S", "0.01", "deadline_s", 0.01),
    ("CLASSIFIER_DEADLINE_S", "3600", "deadline_s", 3600.0),
    ("CLASSIFIER_BASE_PATH", "/prod", "base_path", "/prod"),
    ("CLASSIFIER_BASE_PATH", "/a-b/v1.0/~me_$default", "base_path", "/a-b/v1.0/~me_$default"),
    ("PORT", "1", "port", 1),
    ("PORT", "65535", "port", 65535),
    ("CLASSIFIER_WORKERS", "1", "workers", 1),
    ("CLASSIFIER_WORKERS", "64", "workers", 64),
    ("GOOGLE_CLOUD_PROJECT", "my-project", "google_cloud_project", "my-project"),
]

NO_INTEGER = [
    "-1",
    "+1",
    "1.0",
    "1e1",
    "0x1",
    " 1",
    "1 ",
    "1\n",
    "1_0",
    "\u0661",
    "one",
    "9" * 5000,
]
REFUSED = {
    ("CLASSIFIER_MODEL", "a path in UTF-8"): ["/srv/\udcff"],
    ("CLASSIFIER_VERIFY", "quick or full"): ["yes", "FULL", "full ", "0"],
    ("CLASSIFIER_THREADS", "from 1 to 256"): ["0", "257", *NO_INTEGER],
    ("CLASSIFIER_CONCURRENCY", "from 1 to 256"): ["0", "257", *NO_INTEGER],
    ("CLASSIFIER_QUEUE", "from 0 to 1000"): ["1001", *NO_INTEGER],
    ("CLASSIFIER_WORKERS", "from 1 to 64"): ["0", "65", *NO_INTEGER],
    ("PORT", "from 1 to 65535"): ["0", "65536", *NO_INTEGER],
    ("CLASSIFIER_DEADLINE_S", "seconds from 0.01 to 3600"): [
        *("0", "0.009", "3600.1", "-1", "1e3", "nan", "inf", ".5", "5.", "5s", "1,5", "5\n"),
    ],
    ("CLASSIFIER_BASE_PATH", "no slash at its end"): [
        *("/", "prod", "/prod/", "//prod", "/a//b", "/a b", "/a?b", "/a\n", "/é"),
    ],
}


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})

    assert settings == Settings(
        model=DEFAULT_MODEL,
        verify_weights=False,
        threads=available_cpus(),
        concurrency=available_cpus(),
        queue_limit=64,
        deadline_s=25.0,
        base_path="",
        port=8080,
        workers=1,
        platform="local",
        google_cloud_project="",
    )


@pytest.mark.parametrize("name", sorted({name for name, *_ in ACCEPTED}))
def test_an_empty_value_is_the_default(name: str) -> None:
    assert Settings.from_env({name: ""}) == Settings.from_env({})


@pytest.mark.parametrize(("name", "value", "field", "expected"), ACCEPTED)
def test_a_good_value_is_taken(name: str, value: str, field: str, expected: object) -> None:
    assert getattr(Settings.from_env({name: value}), field) == expected


@pytest.mark.parametrize(
    ("name", "accepted", "value"),
    [(name, accepted, value) for (name, accepted), values in REFUSED.items() for value in values],
)
def test_a_bad_value_is_refused_by_name_value_and_what_is_accepted(
    name: str, accepted: str, value: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: value})

    message = str(caught.value)
    assert message.startswith(f"{name}={value!r} ")
    assert accepted in message


@pytest.mark.parametrize(
    ("environ", "platform"),
    [
        ({"K_SERVICE": "classifier"}, "cloud_run"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "classifier"}, "lambda"),
        ({"K_SERVICE": "a", "AWS_LAMBDA_FUNCTION_NAME": "b"}, "lambda"),
        ({"K_SERVICE": "", "AWS_LAMBDA_FUNCTION_NAME": ""}, "local"),
    ],
)
def test_the_platform_is_told_by_its_runtime_contract(
    environ: dict[str, str], platform: str
) -> None:
    assert Settings.from_env(environ).platform == platform


def test_the_default_model_is_the_one_of_this_repository() -> None:
    assert Path(__file__).parents[2] / "models" / "default" == DEFAULT_MODEL
