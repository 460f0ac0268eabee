"""Token ids are transformers' own, whatever the text and however it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from core.errors import BlankText, ModelUnavailable, TextTooLong, UnencodableText
from core.settings import DEFAULT_MODEL
from core.tokenizer import HEAD_CHARACTERS_PER_TOKEN, Tokenizer, decode_html_entities
from tests.core.conftest import UNHURRIED

PATH = DEFAULT_MODEL / "tokenizer.json"
MAX_TOKENS = 8
REACH = HEAD_CHARACTERS_PER_TOKEN * MAX_TOKENS

TEXTS = [
    "have a lovely day",
    "UPPER lower MiXeD, with (punctuation)... and #tags @names!?",
    "café naïve Ærøskøbing Straße",
    "cafe\u0301 e\u0302\u0323 a\u0308",
    "مرحبا بالعالم",
    "שלום עולם, hello",
    "\u202eright to left mark\u202c",
    "日本語とひらがな 한국어 漢字",
    "smile 😂 family 👨‍👩‍👧‍👦 flag 🇩🇰 skin 👍🏽",
    "zero\u200bwidth\ufeffjoiners\u00adsoft",
    "nul \x00 in\x00side and \x7f \x1b[0m",
    "tabs\tand\nlines\r\nand\u00a0no\u2028break\u3000space",
    "[CLS] [SEP] [MASK] [PAD] ##piece",
    "a" * 99 + " " + "a" * 101,
    "1234567890 3.14 -2e10 ½ ² Ⅷ",
    "&amp; &#128514; stay as they are",
    "x",
    "\u0301",
    "\U0010ffff \ue000",
]


@pytest.fixture(scope="module")
def reference() -> Any:
    return PreTrainedTokenizerFast(tokenizer_file=str(PATH))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(PATH, max_tokens=256, decode_html=False)


@pytest.fixture(scope="module")
def short() -> Tokenizer:
    """Reads 8 tokens; texts from 512 characters on may be cut before they are encoded."""
    return Tokenizer(PATH, MAX_TOKENS, decode_html=False)


def expected_ids(reference: Any, text: str, max_tokens: int) -> list[int]:
    ids: list[int] = reference(text, truncation=True, max_length=max_tokens)["input_ids"]
    return ids


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(tokenizer: Tokenizer, reference: Any, text: str) -> None:
    tokens = tokenizer.encode(text, truncate=False)
    assert tokens.input_ids.tolist() == reference(text)["input_ids"]
    assert tokens.input_ids.dtype == np.int64
    assert not tokens.truncated


@UNHURRIED
@given(text=st.text(max_size=200).filter(str.strip))
def test_ids_of_any_text_are_those_of_transformers(
    tokenizer: Tokenizer, reference: Any, text: str
) -> None:
    ids = tokenizer.encode(text, truncate=True).input_ids.tolist()
    assert ids == expected_ids(reference, text, 256)


@pytest.mark.parametrize(("words", "count", "truncated"), [(6, 8, False), (7, 8, True)])
def test_a_text_over_the_limit_is_cut_and_says_so(
    short: Tokenizer, reference: Any, words: int, count: int, truncated: bool
) -> None:
    text = " ".join(["day"] * words)
    tokens = short.encode(text, truncate=True)
    assert (len(tokens.input_ids), tokens.truncated) == (count, truncated)
    assert tokens.input_ids.tolist() == expected_ids(reference, text, MAX_TOKENS)


@pytest.mark.parametrize("words", [7, 5_000])
def test_a_text_over_the_limit_is_refused_where_cutting_is(short: Tokenizer, words: int) -> None:
    with pytest.raises(TextTooLong, match="more than the 8 tokens"):
        short.encode("day " * words, truncate=False)


def test_a_text_at_the_limit_is_taken_where_cutting_is_refused(short: Tokenizer) -> None:
    assert len(short.encode("day " * 6, truncate=False).input_ids) == MAX_TOKENS


words = st.text(st.sampled_from("abz\u00e9\u4e00,.😂"), min_size=1, max_size=120)
spaces = st.sampled_from([" ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\u3000", " " * 300])


@UNHURRIED
@given(parts=st.lists(st.tuples(words, spaces), min_size=1, max_size=40))
def test_the_head_of_a_long_text_has_the_ids_of_the_whole(
    short: Tokenizer, reference: Any, parts: list[tuple[str, str]]
) -> None:
    text = "".join(word + space for word, space in parts) * 4
    tokens = short.encode(text, truncate=True)
    assert tokens.input_ids.tolist() == expected_ids(reference, text, MAX_TOKENS)
    assert tokens.truncated == (len(reference(text)["input_ids"]) > MAX_TOKENS)


# Space to Python, but no border to BERT, which drops control characters and joins what is around.
@pytest.mark.parametrize("separator", ["\n", "\u2028", "\x0b", "\x0c", "\x1c", "\x1f", "\x85"])
def test_the_head_is_not_cut_inside_a_word(
    short: Tokenizer, reference: Any, separator: str
) -> None:
    head = "a b c ".ljust(REACH - 20) + "zxqj" * 5
    text = head + separator + "zxqj" * 80
    tokens = short.encode(text, truncate=True)
    assert tokens.input_ids.tolist() == expected_ids(reference, text, MAX_TOKENS)


@pytest.mark.parametrize(
    "text",
    [
        "day " * 5_000,
        "a b" + " " * 5_000 + "c d e f g h " * 2_000,
        "a b c " + "zxqj" * 3_000 + " tea" * 3_000,
        "a b c d e f" + "\u0301" * 5_000 + " tea" * 3_000,
        "tea\x1c" * 5_000,
        "日本語" * 5_000,
        "," * 20_000,
        ("a" * 1_001 + " ") * 100,
    ],
)
def test_the_head_of_an_odd_long_text_has_the_ids_of_the_whole(
    short: Tokenizer, reference: Any, text: str
) -> None:
    tokens = short.encode(text, truncate=True)
    assert tokens.input_ids.tolist() == expected_ids(reference, text, MAX_TOKENS)
    assert tokens.truncated == (len(reference(text)["input_ids"]) > MAX_TOKENS)


def test_a_long_text_without_white_space_is_one_unknown_word(
    short: Tokenizer, reference: Any
) -> None:
    text = "a" * 5_000
    tokens = short.encode(text, truncate=False)
    assert tokens.input_ids.tolist() == reference(text)["input_ids"]


@pytest.mark.parametrize("text", ["\ud800", "day \udfff", "\ude02\ud83d", "day " * 300 + "\ud800"])
def test_lone_surrogates_are_unencodable(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(UnencodableText):
        tokenizer.encode(text, truncate=True)


def test_lone_surrogates_far_behind_the_head_are_unencodable_too(tokenizer: Tokenizer) -> None:
    with pytest.raises(UnencodableText):
        tokenizer.encode("day " * 100_000 + "\ud800", truncate=True)


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u00a0", "\u2003\u3000\u2028", " " * 10_000])
def test_white_space_is_blank(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(BlankText):
        tokenizer.encode(text, truncate=True)


@pytest.mark.parametrize("text", ["&nbsp;", " &#32;&#9; ", "&NewLine;&emsp;"])
def test_white_space_spelt_as_entities_is_blank(text: str) -> None:
    with pytest.raises(BlankText):
        Tokenizer(PATH, 256, decode_html=True).encode(text, truncate=True)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("salt &amp; pepper", "salt & pepper"),
        ("&#128514; &#x1F602;", "😂 😂"),
        ("&lt;3 &quot;yes&quot;", '<3 "yes"'),
        ("&amp;amp;", "&amp;"),
        ("AT&T & co; &unheard;", "AT&T & co; &unheard;"),
        ("&#xD800; &#0;", "\ufffd \ufffd"),
    ],
)
def test_html_entities_are_decoded_once_where_the_card_says_so(
    tokenizer: Tokenizer, text: str, meaning: str
) -> None:
    decoding = Tokenizer(PATH, 256, decode_html=True)
    ids = decoding.encode(text, truncate=True).input_ids.tolist()
    assert ids == tokenizer.encode(meaning, truncate=True).input_ids.tolist()


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("&#0000000128514;", "😂"),
        ("&#" + "0" * 5_000 + "65;", "A"),
        ("&#1113000; &#x10fba8;", "\U0010fba8 \U0010fba8"),
        ("&#1114112;", "\ufffd"),
        ("a&#99999999;b", "a\ufffdb"),
        ("a&#" + "9" * 5_000 + ";b", "a\ufffdb"),
        ("a&#" + "9" * 5_000, "a\ufffd"),
        ("a&#x" + "f" * 5_000 + ";b", "a\ufffdb"),
    ],
)
def test_numbers_of_characters_may_have_any_length(text: str, meaning: str) -> None:
    assert decode_html_entities(text) == meaning


def test_html_entities_stay_where_the_card_says_nothing(
    tokenizer: Tokenizer, reference: Any
) -> None:
    ids = tokenizer.encode("salt &amp; pepper", truncate=True).input_ids.tolist()
    assert ids == reference("salt &amp; pepper")["input_ids"]
    assert ids != reference("salt & pepper")["input_ids"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b'{"model": {"type": "None"}}'])
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json is no tokenizer"):
        Tokenizer(path, 256, decode_html=False)


def test_settings_left_in_the_file_do_not_count(short: Tokenizer, tmp_path: Path) -> None:
    trained = PreTrainedTokenizerFast(tokenizer_file=str(PATH))
    trained.backend_tokenizer.enable_truncation(4)
    trained.backend_tokenizer.enable_padding(length=32)
    trained.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer(tmp_path / "tokenizer.json", MAX_TOKENS, decode_html=False)
    for text in ("day", "day " * 20):
        ids = again.encode(text, truncate=True).input_ids.tolist()
        assert ids == short.encode(text, truncate=True).input_ids.tolist()
