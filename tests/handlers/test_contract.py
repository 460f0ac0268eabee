"""The HTTP contract: every case on both adapters, with the same bytes from both."""

from __future__ import annotations

import json
import re

import pytest

from tests.adapters import JSON_HEADERS, Adapter, Answer, Call, CloudRun, Lambda

LOVELY = {"text": "have a lovely day"}


def post(path: str, body: object, **headers: str) -> Call:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call("POST", path, raw, {**JSON_HEADERS, **headers})


def predict(body: object) -> Call:
    return post("/predict", body)


def batch(body: object) -> Call:
    return post("/predict/batch", body)


REFUSED = {
    "not JSON": (predict(b"text=hello"), 400, "malformed_json"),
    "empty body": (predict(b""), 400, "malformed_json"),
    "truncated JSON": (predict(b'{"text": "a'), 400, "malformed_json"),
    "trailing data": (predict(b'{"text": "a"} x'), 400, "malformed_json"),
    "broken UTF-8": (predict(b'{"text": "\xff"}'), 400, "malformed_json"),
    "overlong UTF-8": (predict(b'{"text": "\xc0\xaf"}'), 400, "malformed_json"),
    "UTF-8 surrogate": (predict(b'{"text": "\xed\xa0\x80"}'), 400, "malformed_json"),
    "byte-order mark": (predict(b'\xef\xbb\xbf{"text": "a"}'), 400, "malformed_json"),
    "UTF-16": (predict('{"text": "a"}'.encode("utf-16")), 400, "malformed_json"),
    "lone surrogate": (predict(b'{"text": "\\ud800"}'), 400, "malformed_json"),
    "lone surrogate in a name": (predict(b'{"text": "a", "\\udfff": 1}'), 400, "malformed_json"),
    "NaN": (predict(b'{"text": "a", "top_k": NaN}'), 400, "malformed_json"),
    "Infinity": (predict(b'{"text": "a", "top_k": -Infinity}'), 400, "malformed_json"),
    "duplicate names": (predict(b'{"text": "a", "text": "b"}'), 400, "malformed_json"),
    "nested duplicates": (batch(b'{"texts": [{"a": 1, "a": 2}]}'), 400, "malformed_json"),
    "deep arrays": (predict(b"[" * 100_000), 400, "malformed_json"),
    "deep objects": (predict(b'{"text":' * 50 + b"1" + b"}" * 50), 400, "malformed_json"),
    "deep behind a quote": (predict(b'{"a": "\\"[", "b": ' + b"[" * 99_999), 400, "malformed_json"),
    "huge number": (predict(b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}"), 400, None),
    "control character": (predict(b'{"text": "a\nb"}'), 400, "malformed_json"),
    "array": (predict([LOVELY]), 422, "invalid_field"),
    "null": (predict(None), 422, "invalid_field"),
    "string": (predict("have a lovely day"), 422, "invalid_field"),
    "no text": (predict({}), 422, "invalid_field"),
    "text is null": (predict({"text": None}), 422, "invalid_field"),
    "text is a number": (predict({"text": 5}), 422, "invalid_field"),
    "text is a list": (predict({"text": ["a"]}), 422, "invalid_field"),
    "unknown field": (predict({**LOVELY, "lang": "en"}), 422, "invalid_field"),
    "blank text": (predict({"text": ""}), 422, "blank_text"),
    "white space": (predict({"text": " \t\n\u00a0\u2003"}), 422, "blank_text"),
    "top_k is 0": (predict({**LOVELY, "top_k": 0}), 422, "invalid_field"),
    "top_k too large": (predict({**LOVELY, "top_k": 4}), 422, "invalid_option"),
    "top_k huge": (predict({**LOVELY, "top_k": 10**30}), 422, None),
    "top_k is true": (predict({**LOVELY, "top_k": True}), 422, "invalid_field"),
    "top_k is a string": (predict({**LOVELY, "top_k": "1"}), 422, "invalid_field"),
    "top_k is a fraction": (predict({**LOVELY, "top_k": 1.5}), 422, "invalid_field"),
    "truncate is a number": (predict({**LOVELY, "truncate": 1}), 422, "invalid_field"),
    "too long": (predict({"text": "day " * 25_000, "truncate": False}), 422, "text_too_long"),
    "no texts": (batch({"texts": []}), 422, "invalid_field"),
    "300 texts": (batch({"texts": ["a"] * 300}), 422, "invalid_field"),
    "257 texts": (batch({"texts": ["a"] * 257}), 422, "invalid_field"),
    "a text of wrong type": (batch({"texts": ["a", 5]}), 422, "invalid_field"),
    "texts is a string": (batch({"texts": "abc"}), 422, "invalid_field"),
    "text instead of texts": (batch(LOVELY), 422, "invalid_field"),
    "batch top_k": (batch({"texts": ["a"], "top_k": 4}), 422, "invalid_option"),
    "2 MiB": (predict(b"a" * 2 * 1024 * 1024), 413, "body_too_large"),
    "one byte too many": (predict(b" " * 1_000_001), 413, "body_too_large"),
    "form": (post("/predict", LOVELY, **{"content-type": "text/plain"}), 415, None),
    "no content type": (Call("POST", "/predict", b"{}", {}), 415, "unsupported_media_type"),
    "latin-1": (
        post("/predict", LOVELY, **{"content-type": "application/json; charset=latin-1"}),
        415,
        "unsupported_media_type",
    ),
    "unknown path": (Call("GET", "/nothing"), 404, "not_found"),
    "robots.txt": (Call("GET", "/robots.txt"), 404, "not_found"),
    "favicon.ico": (Call("GET", "/favicon.ico"), 404, "not_found"),
    "slash at the end": (post("/predict/", LOVELY), 404, "not_found"),
    "two slashes": (Call("GET", "/health//live"), 404, "not_found"),
    "traversal": (Call("GET", "/docs/../../etc/passwd"), 404, "not_found"),
    "encoded traversal": (Call("GET", "/%2e%2e/etc/passwd"), 404, "not_found"),
    "broken encoding": (Call("GET", "/%ff%00%0a"), 404, "not_found"),
    "encoded twice": (Call("GET", "/%2568ealth/live"), 404, "not_found"),
    "upper case": (post("/PREDICT", LOVELY), 404, "not_found"),
    "GET on predict": (Call("GET", "/predict"), 405, "method_not_allowed"),
    "HEAD on predict": (Call("HEAD", "/predict"), 405, None),
    "PUT on predict": (Call("PUT", "/predict", b"{}"), 405, "method_not_allowed"),
    "OPTIONS": (Call("OPTIONS", "/predict"), 405, "method_not_allowed"),
    "DELETE on health": (Call("DELETE", "/health"), 405, "method_not_allowed"),
    "TRACE": (Call("TRACE", "/health"), 405, "method_not_allowed"),
    "unknown method": (Call("BREW", "/health"), 405, "method_not_allowed"),
    "POST on the page": (post("/", LOVELY), 405, "method_not_allowed"),
}

ANSWERED = {
    "a text": predict(LOVELY),
    "top_k": predict({**LOVELY, "top_k": 1}),
    "top_k is null": predict({**LOVELY, "top_k": None}),
    "long text": predict({"text": "day " * 25_000}),
    "long word": predict({"text": "a" * 100_000}),
    "NUL": predict({"text": "a\x00b"}),
    "only NUL": predict({"text": "\x00"}),
    "right to left": predict({"text": "יום נפלא لكم \u202eday"}),
    "emoji": predict({"text": "👩‍👩‍👧‍👦 🏳️‍🌈 😀"}),
    "escaped emoji": predict(b'{"text": "\\ud83d\\ude00"}'),
    "20,000 combining marks": predict({"text": "a" + "\u0301" * 20_000}),
    "only combining marks": predict({"text": "\u0301" * 20_000}),
    "HTML entities": predict({"text": "you &amp; me &#128512; &notathing;"}),
    "HTML reference beyond Unicode": predict({"text": "&#" + "9" * 5000 + "; x"}),
    "HTML reference of many zeros": predict({"text": "&#" + "0" * 5000 + "65;"}),
    "brackets in the text": predict({"text": "[{" * 100}),
    "quotes and brackets": predict({"text": '"[' * 100 + "\\"}),
    "special tokens": predict({"text": "[CLS] [SEP] [MASK] [PAD]"}),
    "charset": post("/predict", LOVELY, **{"content-type": 'Application/JSON; charset="UTF-8"'}),
    "the largest body": predict(b'{"text": "' + b"a " * 499_994 + b'"}'),
    "a batch": batch({"texts": ["have a lovely day", " ", "see you tomorrow", "day " * 1000]}),
    "a batch without truncation": batch({"texts": ["day " * 1000, "a"], "truncate": False}),
    "256 texts": batch({"texts": ["hello"] * 256}),
    "model": Call("GET", "/model"),
    "live": Call("GET", "/health/live"),
    "openapi": Call("GET", "/openapi.json"),
    "docs": Call("GET", "/docs"),
    "index": Call("GET", "/"),
    "query string": Call("GET", "/health/live?probe=1"),
    "encoded path": Call("GET", "/%68ealth/live"),
}


def without_times(answer: Answer) -> bytes:
    return re.sub(rb'"inference_time_ms":[0-9.e-]+', b'"inference_time_ms":0', answer.body)


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_gets_its_problem(case: str, adapter: Adapter) -> None:
    call, status, code = REFUSED[case]
    answer = adapter.send(call)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    if call.method != "HEAD":
        problem = answer.json()
        assert problem["status"] == status
        assert problem["type"] == "about:blank"
        assert problem["title"] and problem["detail"]
        assert code is None or problem["code"] == code


@pytest.mark.parametrize("case", REFUSED)
def test_both_clouds_refuse_with_the_same_bytes(
    case: str, cloud_run_adapter: CloudRun, any_lambda_adapter: Lambda
) -> None:
    call = REFUSED[case][0]
    ours, theirs = cloud_run_adapter.send(call), any_lambda_adapter.send(call)
    assert (ours.status, ours.body) == (theirs.status, theirs.body)
    assert ours.headers.get("allow") == theirs.headers.get("allow")


@pytest.mark.parametrize("case", ANSWERED)
def test_both_clouds_answer_with_the_same_bytes(
    case: str, cloud_run_adapter: CloudRun, any_lambda_adapter: Lambda
) -> None:
    ours, theirs = (a.send(ANSWERED[case]) for a in (cloud_run_adapter, any_lambda_adapter))
    assert ours.status == theirs.status == 200
    assert without_times(ours) == without_times(theirs)
    assert ours.headers["content-type"] == theirs.headers["content-type"]


def test_a_prediction(adapter: Adapter) -> None:
    answer = adapter.send(predict(LOVELY)).json()
    assert answer["predicted_label"] == "neither"
    assert answer["confidence"] == max(answer["all_scores"].values())
    assert next(iter(answer["all_scores"])) == "neither"
    assert sum(answer["all_scores"].values()) == pytest.approx(1, abs=1e-9)
    assert sorted(answer["all_scores"].values(), reverse=True) == [*answer["all_scores"].values()]
    assert answer["token_count"] == 6
    assert answer["truncated"] is False
    assert answer["inference_time_ms"] > 0
    assert set(answer["model"]) == {"name", "version"}


def test_top_k_shortens_the_scores(adapter: Adapter) -> None:
    answer = adapter.send(predict({**LOVELY, "top_k": 2})).json()
    assert len(answer["all_scores"]) == 2
    assert answer["predicted_label"] == next(iter(answer["all_scores"]))


def test_truncation_is_told(adapter: Adapter) -> None:
    answer = adapter.send(predict({"text": "day " * 25_000})).json()
    assert answer["truncated"] is True
    assert (
        answer["token_count"] == adapter.send(Call("GET", "/model")).json()["limits"]["max_tokens"]
    )


def test_a_batch_keeps_its_order_and_its_errors_in_place(adapter: Adapter) -> None:
    texts = ["have a lovely day", "\t", "see you tomorrow"]
    answer = adapter.send(batch({"texts": texts})).json()
    first, blank, last = answer["predictions"]
    assert blank == {"error": {"code": "blank_text", "detail": blank["error"]["detail"]}}
    assert first == single(adapter, texts[0])
    assert last == single(adapter, texts[2])
    assert set(answer) == {"predictions", "inference_time_ms", "model"}


def single(adapter: Adapter, text: str) -> dict[str, object]:
    answer: dict[str, object] = adapter.send(predict({"text": text})).json()
    del answer["inference_time_ms"], answer["model"]
    return answer


def test_health(adapter: Adapter) -> None:
    answer = adapter.send(Call("GET", "/health"))
    assert answer.status == 200
    health = answer.json()
    assert health["status"] == "healthy"
    assert health["model_loaded"] is True
    assert health["num_classes"] == 3
    assert health["startup_ms"]["ready"] > health["startup_ms"]["begin"] > 0


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/model", "/docs", "/metrics"])
def test_head_is_get_without_the_body(path: str, adapter: Adapter) -> None:
    head, get = adapter.send(Call("HEAD", path)), adapter.send(Call("GET", path))
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # its numbers move
        assert head.headers["content-length"] == str(len(get.body))


@pytest.mark.parametrize("call", [predict(LOVELY), predict(b"?"), Call("GET", "/nothing")])
def test_every_answer_carries_its_id_and_times(call: Call, adapter: Adapter) -> None:
    headers = adapter.send(call).headers
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    names = [part.split(";")[0].strip() for part in headers["server-timing"].split(",")]
    assert names[:3] == ["queue", "tokenize", "infer"]


def test_metrics_count_what_was_answered(adapter: Adapter) -> None:
    def counted() -> float:
        text = adapter.send(Call("GET", "/metrics")).body.decode()
        [value] = re.findall(r"^classifier_texts_total (\d+)$", text, re.MULTILINE)
        return float(value)

    before = counted()
    adapter.send(batch({"texts": ["hello", "there", " "]}))
    assert counted() - before == 2
