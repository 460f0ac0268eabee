"""Text -> input_ids. The only file that imports tokenizers.

The tokenizer is the model's own `tokenizer.json`, so ids are those of transformers' fast tokenizer.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import tokenizers

from core.errors import BlankText, ModelUnavailable, TextTooLong, UnencodableText
from core.types import Tokens

HEAD_CHARACTERS_PER_TOKEN = 32
# More than any word that a tokenizer takes as one: longer ones are unknown to it as a whole.
MARGIN_CHARACTERS = 1000
# Only what every tokenizer takes for white space: some drop the other control characters, which
# would join the words around them.
_WHITE_SPACE = re.compile(r"[ \t\r\n]")
# Beyond the last code point, 1114111; Python itself reads no number of more than 4,300 digits.
_NO_CHARACTER = re.compile(r"&#[1-9][0-9]{7,};?")
_LEADING_ZEROS = re.compile(r"&#0+(?=[0-9])")


class Tokenizer:
    """A model's tokenizer with its limit and its normalisation of texts; thread-safe."""

    def __init__(self, path: Path, max_tokens: int, decode_html: bool) -> None:
        """Raises `ModelUnavailable` when `path` holds no tokenizer."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelUnavailable(f"{path} is no tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._max_tokens = max_tokens
        self._decode_html = decode_html

    def encode(self, text: str, truncate: bool) -> Tokens:
        """Ids of `text`, at most `max_tokens` of them; `truncated` tells whether some were cut.

        Raises `BlankText` for white space only, `UnencodableText` for lone surrogates, and
        `TextTooLong` for a text over the limit unless `truncate`.
        """
        if self._decode_html:
            text = decode_html_entities(text)
        if not text.strip():
            raise BlankText("the text is blank: it has no character but white space")
        _check_encodable(text)
        encoding = self._encode_head(text) or self._tokenizer.encode(text)
        truncated = bool(encoding.overflowing)
        if truncated and not truncate:
            raise TextTooLong(
                f"the text has more than the {self._max_tokens} tokens that the model reads;"
                " shorten it or allow truncation"
            )
        return Tokens(np.array(encoding.ids, dtype=np.int64), truncated)

    def _encode_head(self, text: str) -> tokenizers.Encoding | None:
        """The encoding of a very long text's head, when that alone fills the model; else None.

        A megabyte takes a second and half a gigabyte to tokenize; the model reads the first few
        hundred tokens of it. Heads of growing length are tried until the last token that is read
        ends well before the cut: what is cut behind it cannot change it, but in a word that over
        a thousand characters which the tokenizer drops tear apart.
        """
        length = HEAD_CHARACTERS_PER_TOKEN * self._max_tokens
        while length < len(text) // 2:
            encoding = self._tokenizer.encode(text[: _border(text, length)])
            if encoding.overflowing and _last_end(encoding) < length - MARGIN_CHARACTERS:
                return encoding
            length *= 2
        return None


def _check_encodable(text: str) -> None:
    """All of it, not only what the model reads: a text is Unicode or it is not."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnencodableText("the text holds lone surrogates: it is no Unicode") from error


def _border(text: str, length: int) -> int:
    """Where to cut: before the white space that follows `length`, or there if none is near."""
    border = _WHITE_SPACE.search(text, length, length + MARGIN_CHARACTERS)
    return border.start() if border else length


def _last_end(encoding: tokenizers.Encoding) -> int:
    """Where in the text the last token that is kept ends (special tokens end at 0)."""
    return max(end for _, end in encoding.offsets)


def decode_html_entities(text: str) -> str:
    """`&amp;` as `&`, `&#128514;` as the emoji: scraped posts are full of them."""
    if "&" not in text:
        return text
    from html import unescape  # late: few texts need its table of 2,231 names

    return unescape(_NO_CHARACTER.sub("\ufffd", _LEADING_ZEROS.sub("&#", text)))
