"""The routes: a `wire.Request` in, a `wire.Response` out, the same on both clouds.

May import: `core`, and of `handlers` all but the adapters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Any

from core.classifier import Classifier
from core.errors import ClassifierError, ModelUnavailable
from core.settings import Settings
from core.types import Prediction
from handlers import request_log, wire
from handlers.admission import Admission, Deadline
from handlers.loading import BackgroundLoader, loader_of
from handlers.metrics import CONTENT_TYPE as METRICS_TYPE
from handlers.metrics import Metrics
from handlers.wire import HttpError, Request, Response

# Within the 10 s that Lambda gives an initialisation, and that probes commonly wait.
LOAD_WAIT_S = 9.0

HTML = "text/html; charset=utf-8"
# The pages have everything inside: nothing may be loaded, and only this origin may be asked.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)


@dataclass
class Observation:
    """What one request cost, filled in while it is answered."""

    texts: int = 0
    tokens: int = 0
    queue_ms: float = 0.0
    tokenize_ms: float = 0.0
    infer_ms: float = 0.0
    model_version: str = ""

    def add(self, prediction: Prediction) -> None:
        self.texts += 1
        self.tokens += prediction.token_count
        self.tokenize_ms += prediction.tokenize_ms
        self.infer_ms += prediction.infer_ms

    @property
    def inference_time_ms(self) -> float:
        return round(self.tokenize_ms + self.infer_ms, 3)


Route = Callable[[Request, Observation], Response]


class Service:
    """A classifier behind routes. Answers from construction on, while the model still loads."""

    def __init__(self, settings: Settings, loader: BackgroundLoader | None = None) -> None:
        """`loader` brings the classifier; by default that of the directory in `settings`."""
        self._settings = settings
        self._admission = Admission(settings.concurrency, settings.queue_limit)
        self._metrics = Metrics()
        self._first = threading.Semaphore(1)  # whose answer tells of the cold start
        self._routes: dict[str, dict[str, Route]] = {
            "/": {"GET": self._index},
            "/predict": {"POST": self._predict},
            "/predict/batch": {"POST": self._predict_batch},
            "/health": {"GET": self._health},
            "/health/live": {"GET": self._live},
            "/model": {"GET": self._model},
            "/openapi.json": {"GET": self._openapi},
            "/docs": {"GET": self._docs},
            "/metrics": {"GET": self._render_metrics},
        }
        self._loader = loader or loader_of(settings)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._routes)

    def wait_until_loaded(self) -> None:
        """Raises `ModelUnavailable` when loading failed or takes over `LOAD_WAIT_S`."""
        self._loader.wait(LOAD_WAIT_S)

    def handle(self, request: Request) -> Response:
        """The answer to any request whatever; never raises."""
        start = perf_counter()
        identifier = request_log.request_id(request.headers, self._settings.platform)
        observation = Observation()
        path = self._without_base(request.path)
        failure: Exception | None = None
        try:
            response = self._route(path, request)(request, observation)
        except (HttpError, ClassifierError) as error:
            response = wire.problem(error)
            failure = error
        except Exception as error:
            response = wire.internal_error()
            failure = error
        elapsed_s = perf_counter() - start
        route = path if path in self._routes else "unmatched"
        headers = {
            **response.headers,
            **self._standing_headers(identifier, observation),
            "Content-Length": str(len(response.body)),
        }
        self._metrics.record(
            route, response.status, elapsed_s, observation.texts, observation.tokens
        )
        self._log(identifier, request, route, response.status, observation, elapsed_s, failure)
        # HEAD is GET without the body (RFC 9110, section 9.3.2).
        body = b"" if request.method == "HEAD" else response.body
        return Response(response.status, headers, body)

    def _without_base(self, path: str) -> str:
        base = self._settings.base_path
        if base and (path == base or path.startswith(base + "/")):
            return path[len(base) :] or "/"
        return path

    def _route(self, path: str, request: Request) -> Route:
        methods = self._routes.get(path)
        if methods is None:
            known = ", ".join(self._routes)
            raise HttpError(HTTPStatus.NOT_FOUND, "not_found", f"no such path; there are {known}")
        method = "GET" if request.method == "HEAD" else request.method
        if method not in methods:
            allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
            raise HttpError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method_not_allowed",
                f"this path takes {allowed}",
                {"Allow": allowed},
            )
        return methods[method]

    def _predict(self, request: Request, observation: Observation) -> Response:
        deadline = self._deadline(request)
        asked = wire.decode(request, wire.PredictRequest)
        classifier = self._ready_classifier(deadline, observation)
        classifier.check_top_k(asked.top_k)
        with self._admission.slot(deadline) as observation.queue_ms:
            deadline.check()
            prediction = classifier.classify_one(asked.text, asked.truncate)
        observation.add(prediction)
        return _json(
            {
                **prediction.fields(asked.top_k),
                "inference_time_ms": observation.inference_time_ms,
                "model": _name_and_version(classifier),
            }
        )

    def _predict_batch(self, request: Request, observation: Observation) -> Response:
        deadline = self._deadline(request)
        asked = wire.decode(request, wire.BatchRequest)
        classifier = self._ready_classifier(deadline, observation)
        classifier.check_top_k(asked.top_k)
        predictions: list[dict[str, Any]] = []
        with self._admission.slot(deadline) as observation.queue_ms:
            for text in asked.texts:
                deadline.check()
                [outcome] = classifier.classify_each([text], asked.truncate)
                if isinstance(outcome, Prediction):
                    observation.add(outcome)
                    predictions.append(outcome.fields(asked.top_k))
                else:
                    predictions.append(outcome.fields())
        return _json(
            {
                "predictions": predictions,
                "inference_time_ms": observation.inference_time_ms,
                "model": _name_and_version(classifier),
            }
        )

    def _health(self, request: Request, observation: Observation) -> Response:
        try:
            classifier = self._loader.wait(LOAD_WAIT_S)
        except ModelUnavailable as error:
            sick = {"status": "unhealthy", "model_loaded": False, "reason": str(error)}
            return _json(sick, HTTPStatus.SERVICE_UNAVAILABLE)
        return _json(
            {
                "status": "healthy",
                "model_loaded": True,
                "num_classes": len(classifier.card.labels),
                "model": _name_and_version(classifier),
                "startup_ms": self._loader.startup_ms,
            }
        )

    def _live(self, request: Request, observation: Observation) -> Response:
        return _json({"status": "alive"})

    def _model(self, request: Request, observation: Observation) -> Response:
        classifier = self._loader.wait(LOAD_WAIT_S)
        card = classifier.card
        return _json(
            {
                **_name_and_version(classifier),
                "labels": card.labels,
                "task": card.task,
                "limits": {
                    "max_tokens": card.max_tokens,
                    "max_texts": wire.MAX_TEXTS,
                    "max_body_bytes": wire.MAX_BODY_BYTES,
                },
                "metrics": card.metrics,
                "checksum": classifier.checksum,
            }
        )

    def _openapi(self, request: Request, observation: Observation) -> Response:
        return _json(self.openapi_document())

    def openapi_document(self) -> dict[str, Any]:
        """The OpenAPI document; it knows the model's labels once the model is loaded."""
        from handlers import openapi  # late: few processes are ever asked for it

        classifier = self._loader.loaded
        return openapi.document(classifier.card if classifier else None, self._settings.base_path)

    def _index(self, request: Request, observation: Observation) -> Response:
        return _page("index.html")

    def _docs(self, request: Request, observation: Observation) -> Response:
        return _page("docs.html")

    def _render_metrics(self, request: Request, observation: Observation) -> Response:
        classifier = self._loader.loaded
        model = classifier.identity if classifier else {}
        phases = self._loader.startup_ms if classifier else {}
        text = self._metrics.render(self._admission.running, self._admission.waiting, model, phases)
        return Response(HTTPStatus.OK, {"Content-Type": METRICS_TYPE}, text.encode())

    def _deadline(self, request: Request) -> Deadline:
        limit = self._settings.deadline_s
        return Deadline(limit if request.timeout_s is None else min(limit, request.timeout_s))

    def _ready_classifier(self, deadline: Deadline, observation: Observation) -> Classifier:
        classifier = self._loader.wait(min(LOAD_WAIT_S, deadline.remaining_s))
        observation.model_version = classifier.card.version
        return classifier

    def _standing_headers(self, identifier: str, observation: Observation) -> dict[str, str]:
        timing = (
            f"queue;dur={observation.queue_ms:.2f}, tokenize;dur={observation.tokenize_ms:.2f},"
            f" infer;dur={observation.infer_ms:.2f}"
        )
        if observation.texts and self._first.acquire(blocking=False):
            timing += f", cold;dur={self._loader.startup_ms['ready']:.1f}"
        return {
            "X-Request-Id": identifier,
            "Server-Timing": timing,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }

    def _log(
        self,
        identifier: str,
        request: Request,
        route: str,
        status: int,
        observation: Observation,
        elapsed_s: float,
        failure: Exception | None,
    ) -> None:
        fields: dict[str, Any] = {
            "request_id": identifier,
            **request_log.trace_fields(self._settings, request.headers),
            "status": status,
            "total_ms": round(elapsed_s * 1e3, 2),
        }
        if observation.texts:
            fields |= {
                "model_version": observation.model_version,
                "texts": observation.texts,
                "tokens": observation.tokens,
                "queue_ms": round(observation.queue_ms, 2),
                "tokenize_ms": round(observation.tokenize_ms, 2),
                "infer_ms": round(observation.infer_ms, 2),
            }
        if isinstance(failure, HttpError | ClassifierError):
            fields["code"] = failure.code
        if failure is not None and status == HTTPStatus.INTERNAL_SERVER_ERROR:
            fields["stack_trace"] = request_log.stack_trace(failure)
        severity = "ERROR" if status >= 500 else "INFO"
        request_log.write(severity, f"{request.method[:16]} {route}", **fields)


def _json(value: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(status.value, {"Content-Type": wire.JSON}, wire.encode(value))


def _page(name: str) -> Response:
    headers = {"Content-Type": HTML, "Content-Security-Policy": PAGE_POLICY}
    return Response(HTTPStatus.OK.value, headers, _read_static(name))


@cache
def _read_static(name: str) -> bytes:
    return (Path(__file__).parent / "static" / name).read_bytes()


def _name_and_version(classifier: Classifier) -> dict[str, str]:
    return {"name": classifier.card.name, "version": classifier.card.version}
