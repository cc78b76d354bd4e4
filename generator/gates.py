"""Gates: what a page must pass. Each is a small function that returns None, or a reason with a detail.

A new gate is a function here and a line in `GATES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from datasketch import MinHash, MinHashLSH

from rostok.generator.records import Kind
from rostok.seeds.record import Seed

Verdict = tuple[str, str] | None
_WORD = re.compile(r"[\w']+")
_END = re.compile(r"[.!?…]['\"”’)]*$")
_PERMUTATIONS = 64


@dataclass
class Context:
    """What a gate may look at besides the text: the seed, the prompt, and the pages accepted before."""

    seed: Seed
    characters: int
    near_duplicate: float
    kind: Kind = "written"
    prompt: str = ""
    index: Any = field(default=None)

    def __post_init__(self) -> None:
        self.index = MinHashLSH(threshold=self.near_duplicate, num_perm=_PERMUTATIONS)
        self.names = {node.name.casefold() for node in self.seed.nodes}

    def remember(self, number: int, text: str) -> None:
        """An accepted page: later ones must not be nearly the same."""
        if str(number) not in self.index:
            self.index.insert(str(number), sketch(text))


def words(text: str) -> list[str]:
    """Words in lower case."""
    return _WORD.findall(text.casefold())


def trim(text: str) -> str:
    """The text up to its last whole sentence; unchanged when it has none."""
    text = text.strip()
    if _END.search(text):
        return text
    ends = [match.end() for match in re.finditer(r"[.!?…]['\"”’)]*(?=\s)", text)]
    return text[: ends[-1]] if ends else text


def sketch(text: str) -> MinHash:
    """MinHash of the text's word 5-grams."""
    minhash = MinHash(num_perm=_PERMUTATIONS)
    minhash.update_batch([" ".join(gram).encode() for gram in _grams(words(text), 5)])
    return minhash


def length(text: str, context: Context) -> Verdict:
    """Between two fifths and twice the page length; an answer of replay may be shorter."""
    shortest = 40 if context.kind == "replay" else 0.4 * context.characters
    if len(text) < shortest:
        return "too short", f"{len(text)} characters"
    return ("too long", f"{len(text)} characters") if len(text) > 2 * context.characters else None


def whole(text: str, context: Context) -> Verdict:
    """The last sentence is finished."""
    return None if _END.search(text.strip()) or context.kind in ("composed", "dialogue") else ("cut off", text[-40:])


def looping(text: str, context: Context) -> Verdict:
    """No run of eight words stands twice, and four-word runs hardly repeat."""
    found = words(text)
    long = _grams(found, 8)
    if len(set(long)) < len(long):
        return "loop", "eight words stand twice"
    short = _grams(found, 4)
    share = 1 - len(set(short)) / max(1, len(short))
    return ("loop", f"{share:.0%} of four-word runs repeat") if share > 0.12 else None


def prompt_copy(text: str, context: Context) -> Verdict:
    """The page is not its own prompt said again."""
    if context.kind != "written":
        return None
    asked = set(_grams(words(context.prompt), 12))
    copied = [gram for gram in _grams(words(text), 12) if gram in asked]
    return ("copies the prompt", " ".join(copied[0])) if copied else None


def speaks_of_the_task(text: str, context: Context) -> Verdict:
    """A page is a text, not a talk about writing one."""
    if context.kind != "written":
        return None
    found = _TASK.search(text)
    return ("speaks of the task", found.group(0)) if found else None


def language(text: str, context: Context) -> Verdict:
    """The text is in the seed's language and its script."""
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(letter.isascii() for letter in letters) / max(1, len(letters))
    if latin < 0.97:
        return "wrong script", f"{1 - latin:.0%} of the letters"
    guess = _identifier().classify(text)[0]
    return ("wrong language", str(guess)) if guess != context.seed.language and len(text) > 150 else None


def on_seed(text: str, context: Context) -> Verdict:
    """The page names nodes of its seed: one where the model writes freely, two elsewhere, none in replay."""
    if context.kind == "replay":
        return None
    lower = text.casefold()
    named = [name for name in context.names if name in lower]
    return None if len(named) >= (1 if context.kind == "written" else 2) else ("off the seed", f"{len(named)} of its nodes named")


def new(text: str, context: Context) -> Verdict:
    """Not nearly a page that was accepted before."""
    near = context.index.query(sketch(text))
    return ("near-duplicate", f"of page {near[0]}") if near else None


GATES: tuple[Callable[[str, Context], Verdict], ...] = (
    length, whole, looping, prompt_copy, speaks_of_the_task, language, on_seed, new)


def judge(text: str, context: Context) -> Verdict:
    """The first reason to refuse the page, or None."""
    for gate in GATES:
        verdict = gate(text, context)
        if verdict is not None:
            return verdict
    return None


_TASK = re.compile(
    r"\b(as an AI|language model|in one plain sentence|I cannot|Sure,|Here is|Here's|paragraph|the prompt|<\|)", re.IGNORECASE)


def _grams(found: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(found[i : i + size]) for i in range(len(found) - size + 1)]


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_DIR / MODEL_FILE)
    identifier.set_languages(["en", "ru", "de", "fr", "es", "it", "pt", "nl", "pl", "uk", "zh", "ja"])
    return identifier
