"""The model, loaded in a thread while frameworks are imported.

Parsing the tokenizer and making the session release the GIL, imports do not: so this module's own
imports (numpy, ONNX Runtime) come first, then the thread starts, then the frameworks are imported.

May import: `core`, `handlers.startup`, `handlers.request_log`, the standard library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from time import monotonic

from core.classifier import Classifier
from core.errors import ClassifierError, ModelUnavailable
from core.settings import Settings
from handlers import request_log, startup


class BackgroundLoader:
    """Starts `load` in a thread at once; many threads may wait for what comes of it.

    `startup_ms` has the phases of the start, in milliseconds: when loading began and when the
    model was ready, both since the process started, and what each step between them took.
    """

    def __init__(self, load: Callable[[], Classifier]) -> None:
        self.startup_ms: dict[str, float] = {"begin": round(startup.since_start_ms(), 1)}
        self._load = load
        self._done = threading.Event()
        self._classifier: Classifier | None = None
        self._failure: ClassifierError | None = None
        threading.Thread(target=self._run, name="model-loader", daemon=True).start()

    @property
    def loaded(self) -> Classifier | None:
        """The classifier if it is there; never waits."""
        return self._classifier

    def wait(self, timeout_s: float) -> Classifier:
        """The classifier. Raises `ModelUnavailable` when it failed to load or takes longer."""
        started = monotonic()
        if not self._done.wait(timeout_s):
            waited = monotonic() - started
            raise ModelUnavailable(f"the model still loads, {waited:.0f} s were not enough")
        if self._classifier is None:
            raise ModelUnavailable(str(self._failure)) from self._failure
        return self._classifier

    def _run(self) -> None:
        try:
            classifier = self._load()
            for phase, milliseconds in classifier.load_ms.items():
                self.startup_ms[phase] = round(milliseconds, 1)
            self.startup_ms["ready"] = round(startup.since_start_ms(), 1)
            _log(classifier, self.startup_ms)
            self._classifier = classifier
        except ClassifierError as error:
            self._failure = error
            _log_failure(error)
        except BaseException as error:
            # Whatever it is, requests must get an answer instead of waiting for a dead thread.
            self._failure = ModelUnavailable(f"loading failed: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
            _log_failure(self._failure, stack_trace=request_log.stack_trace(error))
        finally:
            self._done.set()


def _log(classifier: Classifier, startup_ms: dict[str, float]) -> None:
    request_log.write("INFO", "model loaded", startup_ms=startup_ms, **classifier.identity)


def _log_failure(failure: ClassifierError, **trace: str) -> None:
    request_log.write("ERROR", "model failed to load", reason=str(failure), **trace)


@cache
def loader_of(settings: Settings) -> BackgroundLoader:
    """The process's loader of the model in `settings`; the first call starts it."""
    return BackgroundLoader(lambda: _load(settings))


def _load(settings: Settings) -> Classifier:
    return Classifier.load(settings.model, settings.threads, settings.verify_weights)
