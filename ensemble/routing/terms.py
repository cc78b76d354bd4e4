"""Words and pairs of words, as the strategies that look at words count them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"[^.!?…\n]+[.!?…]?")
_LEAST_WORDS = 3


def words(text: str) -> list[str]:
    """Words in lower case, a plural's s taken off: `tin plates` asks for the tin plate."""
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
            for word in _WORD.findall(text.casefold())]


def terms(text: str) -> list[str]:
    """Words, and pairs of neighbouring words; most nodes are called by a pair."""
    single = words(text)
    return [*single, *(f"{a} {b}" for a, b in pairwise(single))]


def sentences(texts: Iterable[str]) -> list[str]:
    """The sentences of all texts that have at least three words."""
    found = (part.strip() for text in texts for part in _SENTENCE.findall(text))
    return [one for one in found if len(one.split()) >= _LEAST_WORDS]
