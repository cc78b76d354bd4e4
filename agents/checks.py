"""Checks on a model's field, in code. Each returns None, or the reason as a short name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_WORD = re.compile(r"[a-z']+")


def words(text: str) -> list[str]:
    """Lower-case words of an English text."""
    return _WORD.findall(text.lower())


def looping(text: str, size: int = 3) -> bool:
    """Whether a word n-gram stands twice, or one word four times in a row of eight."""
    found = words(text)
    grams = [tuple(found[i : i + size]) for i in range(len(found) - size + 1)]
    if len(set(grams)) < len(grams):
        return True
    return any(found[i : i + 8].count(word) >= 3 for i in range(len(found)) for word in set(found[i : i + 8]) if len(word) > 4)


def copied(text: str, sources: Iterable[str], size: int = 5) -> bool:
    """Whether the text shares a word n-gram with a prompt or an example."""
    found = words(text)
    grams = {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}
    for source in sources:
        other = words(source)
        if any(tuple(other[i : i + size]) in grams for i in range(len(other) - size + 1)):
            return True
    return False


def sentence_problem(text: str, *, start: str, prompt: str, shortest: int = 5) -> str | None:
    """A gloss, a transition or a clash: one whole sentence that adds something to the words it was begun with."""
    rest = text.removeprefix(start)
    added = words(rest)
    if not text.endswith("."):
        return "cut off"
    if len(added) < shortest:
        return "too short"
    if len(text) > 260:
        return "too long"
    if looping(text):
        return "loop"
    if copied(rest, [prompt]):
        return "copies the prompt"
    if any(word in added for word in ("sentence", "sentences", "story", "prompt", "paragraph")):
        return "speaks of the task"
    if added[-1] in {"the", "a", "an", "of", "and", "to", "in", "with", "for", "that", "its", "is", "or", "as", "by", "on"}:
        return "cut off"
    return None


def scene_problem(text: str, *, prompt: str) -> str | None:
    """A scene: two to six whole sentences of prose."""
    if len(text) < 120:
        return "too short"
    if len(text) > 900:
        return "too long"
    if not text.rstrip().endswith((".", "!", "?", '"')):
        return "cut off"
    if any(mark in text for mark in ("#", "*", "http", ":", "[", "|", "<")):
        return "not prose"
    if looping(text, 4):
        return "loop"
    if copied(text, [prompt], 6):
        return "copies the prompt"
    return None


def title_problem(text: str, *, shown: Iterable[str]) -> str | None:
    """A title: two to seven words, not one of the examples."""
    found = words(text)
    if not 2 <= len(found) <= 7 or len(text) > 60:
        return "too short" if len(found) < 2 else "too long"
    if not text[0].isupper() or not text[-1].isalpha():
        return "cut off"
    if any(text.casefold() == other.casefold() for other in shown):
        return "copies an example"
    if len(set(found)) < len(found) and looping(text, 2):
        return "loop"
    return None


def name_problem(name: str, *, is_common: Callable[[str], bool], taken: set[str], avoid: set[str]) -> str | None:
    """A node's name: two different common words, none of which another node of the seed has.

    Args:
        is_common: whether a word is one token of the base; rare letters in a row are not.
        taken: words that other nodes of this seed use.
        avoid: whole names and words from the examples, the theme or the library.
    """
    parts = name.split()
    if len(parts) != 2 or parts[0] == parts[1]:
        return "not two words"
    if name in avoid or parts[1] in avoid:
        return "copies an example"
    if any(part in taken for part in parts):
        return "word used twice"
    if any(part in _EMPTY or part.endswith("ly") for part in parts):
        return "empty word"
    if parts[1].endswith(("ing", "ed")) or (parts[1].endswith("s") and not parts[1].endswith(("ss", "us"))):
        return "no singular noun"
    if not all(is_common(part) for part in parts):
        return "no common word"
    return None


_EMPTY = {
    "the", "and", "for", "with", "that", "this", "from", "into", "onto", "other", "more", "most", "some", "any", "all", "one",
    "two", "three", "four", "five", "ten", "thing", "things", "tool", "tools", "etc", "such", "like", "its", "his", "her",
    "their", "our", "your", "are", "was", "were", "has", "have", "had", "not", "but", "very", "many", "much", "used", "using",
    "them", "they", "who", "which", "what", "when", "where", "also", "each", "every", "both", "few", "own", "same", "than",
    "aboard", "across", "along", "upon", "about", "thee", "thou", "before", "after", "behind", "between", "inside", "outside",
    "itself", "been", "onboard", "out", "over", "under", "way", "kind", "type", "part", "being", "while", "you",
    "sounds", "clothes", "animals", "smells", "vessels", "signs", "materials", "parts", "theme", "people", "places",
}
