"""Checks on a model's field, in code, for any language. Each returns None, or the reason as a short name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from rostok.agents.language import Language, known

_FOREIGN = 0.05  # share of letters of another script from which a text is in the wrong one


def looping(language: Language, text: str, size: int = 3) -> bool:
    """Whether a word n-gram stands twice, or one long word three times among eight."""
    found = language.words(text)
    grams = [tuple(found[i : i + size]) for i in range(len(found) - size + 1)]
    if len(set(grams)) < len(grams):
        return True
    return any(found[i : i + 8].count(word) >= 3 for i in range(len(found)) for word in set(found[i : i + 8]) if len(word) > 4)


def copied(language: Language, text: str, sources: Iterable[str], size: int = 5) -> bool:
    """Whether the text shares a word n-gram with a prompt or an example."""
    found = language.words(text)
    grams = {tuple(found[i : i + size]) for i in range(len(found) - size + 1)}
    for source in sources:
        other = language.words(source)
        if any(tuple(other[i : i + size]) in grams for i in range(len(other) - size + 1)):
            return True
    return False


def sentence_problem(language: Language, text: str, *, start: str, prompt: str, shortest: int = 5) -> str | None:
    """A gloss, a transition or a clash: one whole sentence that adds something to the words it was begun with."""
    rest = text.removeprefix(start)
    added = language.words(rest)
    if not text.endswith("."):
        return "cut off"
    if len(added) < shortest:
        return "too short"
    if len(text) > 260:
        return "too long"
    if language.foreign(text) > _FOREIGN:
        return "wrong script"
    if looping(language, text):
        return "loop"
    if copied(language, rest, [prompt]):
        return "copies the prompt"
    if any(word in language.of_the_task for word in added):
        return "speaks of the task"
    if added[-1] in language.dangling:
        return "cut off"
    return None


def scene_problem(language: Language, text: str, *, prompt: str, shown: Iterable[str] = ()) -> str | None:
    """A scene: two to six whole sentences of prose."""
    if len(text) < 120 or len(re.findall(r"[.!?](?:\s|$)", text)) < 2:
        return "too short"
    if len(text) > 900:
        return "too long"
    if not text.rstrip().endswith((".", "!", "?", '"')):
        return "cut off"
    if any(mark in text for mark in ("#", "*", "http", ":", "[", "|", "<", "_")):
        return "not prose"
    if language.foreign(text) > _FOREIGN or wrong_language(language, text):
        return "wrong language"
    if looping(language, text, 4):
        return "loop"
    if copied(language, text, shown, 5):
        return "copies an example"
    if copied(language, text, [prompt], 6):
        return "copies the prompt"
    if any(word in language.of_the_task for word in language.words(text)):
        return "speaks of the task"
    return None


def title_problem(language: Language, text: str, *, shown: Iterable[str], taken: Iterable[str] = ()) -> str | None:
    """A title: two to seven words, not one of the examples, and not begun like one of the library."""
    found = language.words(text)
    if not 2 <= len(found) <= 7 or len(text) > 60:
        return "too short" if len(found) < 2 else "too long"
    if not text[0].isupper() or not text[-1].isalpha():
        return "cut off"
    if language.foreign(text) > _FOREIGN:
        return "wrong script"
    if any(other.casefold() in text.casefold() for other in shown):
        return "copies an example"
    if ".." in text:
        return "cut off"
    if any(found[:3] == language.words(other)[:3] for other in taken):
        return "title begins like another"
    if len(set(found)) < len(found) and looping(language, text, 2):
        return "loop"
    return None


def name_problem(language: Language, name: str, *, is_common: Callable[[str], bool], taken: set[str],
                 avoid: set[str]) -> str | None:
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
    if any(part in language.empty or re.fullmatch(language.no_name, part) for part in parts):
        return "empty word"
    if re.fullmatch(language.no_noun, parts[1]):
        return "no singular noun"
    if language.foreign(name) > 0:
        return "wrong script"
    if language.one_token and not all(is_common(part) for part in parts):
        return "no common word"
    return None


def verb_problem(language: Language, verb: str, *, shown: Iterable[str], used: Iterable[str]) -> str | None:
    """What one thing does to another: one word that leads somewhere."""
    if not re.fullmatch(language.verb, verb):
        return "no verb"
    if verb in language.states:
        return "empty verb"
    if verb in shown:
        return "copies an example"
    return "verb used twice" if verb in used else None


def wrong_language(language: Language, text: str) -> bool:
    """Whether a longer text is in another of the languages that seeds are written in."""
    return bool(len(known()) > 1 and _identifier(tuple(known())).classify(text)[0] != language.code)


@cache
def _identifier(codes: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_DIR / MODEL_FILE)
    found.set_languages(list(codes))
    return found
