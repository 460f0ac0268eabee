"""The OpenAPI 3.1 document of the routes. The shapes of requests come from `wire`.

May import: msgspec, `core.artifact`, `handlers.wire`, the standard library.
"""

from __future__ import annotations

from typing import Any

from core.artifact import ModelCard
from handlers import wire

TITLE = "Text classifier"
# At least one character that is no white space; the service's own rule looks at the decoded text.
NOT_BLANK = r"\S"


def document(card: ModelCard | None, base_path: str) -> dict[str, Any]:
    """The document; with `card` it knows the labels and therefore the greatest `top_k`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": "1",
            "description": "Classifies texts. Errors are RFC 9457 problems with a stable `code`.",
        },
        "servers": [{"url": base_path or "/"}],
        "paths": _paths(),
        "components": {"schemas": _schemas(card)},
    }


def _paths() -> dict[str, Any]:
    unavailable = {"503": _problem("The model is not loaded, or the time was up.", retry=True)}
    return {
        "/predict": {
            "post": _operation(
                "predict", "Classify a text", "Prediction", _POST_ERRORS, request="PredictRequest"
            )
        },
        "/predict/batch": {
            "post": _operation(
                "predictBatch",
                "Classify up to 256 texts; a bad one is an error in its place",
                "BatchPrediction",
                _POST_ERRORS,
                request="BatchRequest",
            )
        },
        "/health": {
            "get": _operation(
                "health",
                "Is the model loaded? Waits up to 9 s while it loads",
                "Health",
                {"503": _answer("The model did not load.", "Unhealthy")},
            )
        },
        "/health/live": {"get": _operation("live", "Does the process run?", "Live", {})},
        "/model": {"get": _operation("model", "What is served", "Model", unavailable)},
        "/openapi.json": {"get": _operation("openapi", "This document", None, {})},
        "/docs": {"get": _text("docs", "A page to read this document", "text/html")},
        "/": {"get": _text("index", "A page to try the classifier", "text/html")},
        "/metrics": {"get": _text("metrics", "Prometheus metrics", "text/plain")},
    }


def _operation(
    name: str,
    summary: str,
    answer: str | None,
    errors: dict[str, Any],
    request: str | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": _answer("OK", answer), **errors},
    }
    if request:
        operation["requestBody"] = {
            "required": True,
            "content": {wire.JSON: {"schema": _reference(request)}},
        }
    return operation


def _text(name: str, summary: str, media_type: str) -> dict[str, Any]:
    ok = {"description": "OK", "content": {media_type: {"schema": {"type": "string"}}}}
    return {"operationId": name, "summary": summary, "responses": {"200": ok}}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _answer(description: str, schema: str | None) -> dict[str, Any]:
    shape = _reference(schema) if schema else {"type": "object"}
    return {"description": description, "content": {wire.JSON: {"schema": shape}}}


def _problem(description: str, retry: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": description,
        "content": {wire.PROBLEM: {"schema": _reference("Problem")}},
    }
    if retry:
        seconds = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
        answer["headers"] = {"Retry-After": seconds}
    return answer


_POST_ERRORS = {
    "400": _problem("The body is not JSON."),
    "413": _problem("The body is larger than 1,000,000 bytes."),
    "415": _problem("The Content-Type is not application/json."),
    "422": _problem("A field is wrong."),
    "429": _problem("Too many requests wait already.", retry=True),
    "500": _problem("A defect; the log has it."),
    "503": _problem("The model is not loaded, or the time was up.", retry=True),
}


def _schemas(card: ModelCard | None) -> dict[str, Any]:
    return {**_request_schemas(card), **_answer_schemas(card)}


def _request_schemas(card: ModelCard | None) -> dict[str, Any]:
    import msgspec.json  # late: only this document needs its schemas

    shapes = [wire.PredictRequest, wire.BatchRequest]
    _, schemas = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    top_k: dict[str, Any] = {"type": "integer", "minimum": 1}
    if card:
        top_k["maximum"] = len(card.labels)
    for schema in schemas.values():
        schema["properties"]["top_k"] = {"anyOf": [top_k, {"type": "null"}], "default": None}
    schemas["PredictRequest"]["properties"]["text"] |= {"minLength": 1, "pattern": NOT_BLANK}
    schemas["PredictRequest"]["examples"] = [{"text": "have a lovely day"}]
    schemas["BatchRequest"]["examples"] = [{"texts": ["have a lovely day", "see you tomorrow"]}]
    return schemas


def _answer_schemas(card: ModelCard | None) -> dict[str, Any]:
    label: dict[str, Any] = {"type": "string"}
    if card:
        label["enum"] = list(card.labels)
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    text = {"type": "string"}
    count = {"type": "integer", "minimum": 0}
    numbers = {"type": "object", "additionalProperties": {"type": "number"}}
    model = _object(name=text, version=text)
    prediction = {
        "predicted_label": {"anyOf": [label, {"type": "null"}]},
        "confidence": probability,
        "all_scores": {
            "type": "object",
            "propertyNames": label,
            "additionalProperties": probability,
        },
        "token_count": count,
        "truncated": {"type": "boolean"},
    }
    several = {"predicted_labels": {"type": "array", "items": label}}
    served = {"inference_time_ms": {"type": "number", "minimum": 0}, "model": model}
    error = _object(error=_object(code=text, detail=text))
    return {
        "Prediction": _object(optional=several, **prediction, **served),
        "BatchPrediction": _object(
            predictions={
                "type": "array",
                "items": {"anyOf": [_object(optional=several, **prediction), error]},
            },
            **served,
        ),
        "Health": _object(
            status={"const": "healthy"},
            model_loaded={"const": True},
            num_classes=count,
            model=model,
            startup_ms=numbers,
        ),
        "Unhealthy": _object(
            status={"const": "unhealthy"}, model_loaded={"const": False}, reason=text
        ),
        "Live": _object(status={"const": "alive"}),
        "Model": _object(
            name=text,
            version=text,
            labels={"type": "array", "items": label},
            task={"enum": ["single_label", "multi_label"]},
            limits={"type": "object", "additionalProperties": count},
            metrics=numbers,
            checksum=text,
        ),
        "Problem": _object(
            type=text, title=text, status={"type": "integer"}, code=text, detail=text
        ),
    }


def _object(optional: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """An object with exactly these properties, all required but the `optional` ones."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }
