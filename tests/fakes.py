"""A fake of the encoder, for tests on every side of the classifier."""

from __future__ import annotations

import numpy as np

from core.errors import BlankText
from core.types import Tokens


class WordLengths:
    """An `Encoder`: each word is its length; text without words is blank."""

    def encode(self, text: str, truncate: bool) -> Tokens:
        if not text.strip():
            raise BlankText("blank")
        ids = [len(word) for word in text.split()]
        return Tokens(np.array(ids, dtype=np.int64), truncated=False)
