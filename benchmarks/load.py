"""Many clients at once: errors, latency, requests a second.

    python -m benchmarks.load --clients 16 --seconds 30 --against "plain torch"

Closed loop: every client sends its next request when it has the answer to the last one. The clients
are threads of a process of their own. Each answer is held against what the same server said of that
text when it was asked alone: only right answers count. Exit code 1 when any was wrong.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from time import perf_counter

from benchmarks import report
from benchmarks.checkpoints import torch_checkpoint
from benchmarks.servers import STARTERS, plain_torch

OURS = "ours, Cloud Run"
TEXTS = 200
SENTENCE = (
    "we had a lovely day at the lake and the children were swimming while my brother made lunch"
    " for everyone who came by train from town with bread cheese and some very old stories"
)


@dataclass(frozen=True)
class Load:
    """`latencies_ms` of the right answers, sorted; `errors` counts all others."""

    latencies_ms: tuple[float, ...]
    errors: int
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, share: float) -> float:
        last = len(self.latencies_ms) - 1
        return self.latencies_ms[min(last, int(share * len(self.latencies_ms)))]


def texts(count: int, seed: int) -> list[str]:
    """Made-up sentences of 4 to 40 words, the same for the same seed."""
    generator, words = random.Random(seed), SENTENCE.split()
    return [" ".join(generator.choices(words, k=generator.randint(4, 40))) for _ in range(count)]


def drive(port: int, clients: int, seconds: float) -> Load:
    """Runs the clients in this process, each over the same texts from a place of its own."""
    sentences = texts(TEXTS, seed=0)
    alone = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    labels = [_label(alone, text) for text in sentences]
    alone.close()
    latencies: list[list[float]] = [[] for _ in range(clients)]
    errors = [0] * clients
    begin = perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        turn = number * len(sentences) // clients
        while perf_counter() - begin < seconds:
            turn = (turn + 1) % len(sentences)
            sent = perf_counter()
            label = _label(connection, sentences[turn])
            if label is not None and label == labels[turn]:
                latencies[number].append((perf_counter() - sent) * 1e3)
            else:
                errors[number] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = tuple(sorted(ms for own in latencies for ms in own))
    return Load(every, sum(errors), perf_counter() - begin)


def _label(connection: http.client.HTTPConnection, text: str) -> str | None:
    """What the server calls `text`; None when it gives no answer of the right shape."""
    body = json.dumps({"text": text})
    try:
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        return str(answer["predicted_label"]) if response.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        connection.close()
        return None


def measure(name: str, clients: int, seconds: float) -> Load:
    starter = (
        partial(plain_torch, torch_checkpoint()[0]) if name == "plain torch" else STARTERS[name]
    )
    with starter() as server, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        server.predict(texts(1, seed=0)[0])
        return pool.submit(drive, server.port, clients, seconds).result()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--against", action="append", default=[], choices=["plain torch", "plain ONNX"]
    )
    options = parser.parse_args(arguments)
    names = [OURS, *options.against]
    loads = {name: measure(name, options.clients, options.seconds) for name in names}
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    found = {
        name: {
            "clients": options.clients,
            "requests": len(load.latencies_ms),
            "errors": load.errors,
            "per_second": load.per_second,
            **{key: load.percentile_ms(share) for key, share in shares.items()},
        }
        for name, load in loads.items()
    }
    rows = [[name, *(f"{value:,.4g}" for value in row.values())] for name, row in found.items()]
    print(report.table(["server", *next(iter(found.values()))], rows))
    print(report.save("load", found))
    return 1 if any(load.errors for load in loads.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
