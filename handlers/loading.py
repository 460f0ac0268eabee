"""The model, loaded in a thread while frameworks are imported: reading and parsing release the GIL.

May import: `core`, the standard library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from core.classifier import Classifier
from core.errors import ClassifierError, ModelUnavailable


class BackgroundLoader:
    """Starts `load` in a thread at once; many threads may wait for what comes of it."""

    def __init__(
        self, load: Callable[[], Classifier], on_loaded: Callable[[Classifier], None]
    ) -> None:
        """`on_loaded` is called in the loading thread, before anyone gets the classifier."""
        self._load = load
        self._on_loaded = on_loaded
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
            self._on_loaded(classifier)
            self._classifier = classifier
        except ClassifierError as error:
            self._failure = error
        except BaseException as error:
            # Whatever it is, requests must get an answer instead of waiting for a dead thread.
            self._failure = ModelUnavailable(f"loading failed: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
        finally:
            self._done.set()
