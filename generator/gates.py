"""Gates: what a page must pass. Each is a small function that returns None, or a reason with a detail.

A new gate is a function here and a line in `GATES`. Cheap ones come first. docs/adpt.md tells what each refuses.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rostok.generator.frozen import Frozen, frozen
from rostok.generator.neighbours import Neighbours, Place, sketch
from rostok.generator.records import Kind, Page
from rostok.generator.window import Window, read_page
from rostok.seeds.record import Seed

Verdict = tuple[str, str] | None
_WORD = re.compile(r"[\w']+")
_END = re.compile(r"[.!?…]['\"”’)]*(?=\s|$)")
# Full stops that end no sentence: of a title before a name, of an initial, of the number of an item.
_NO_END = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof|St|Fig|Vol|e\.g|i\.e|vs)\.$|(?<![\w'])[A-HJ-Z]\.$|^[\s*#>•-]*\d{1,3}\.$")
_BY_CODE = ("composed", "dialogue")  # kinds whose sentences code has put together
_SAME_SENSE = 0.97   # cosine of two written pages' profiles; see docs/adpt.md
_STRAYED = 2         # names of one other seed that are no chance any more
# How far a page may lie outside the reference's 1st and 99th percentiles: of 600 pages of human prose that the reference had not
# seen none is refused, of 600 pages of shuffled tokens 73%, of 800 accepted pages of a demo one (it loops).
_BELOW, _ABOVE = 1.25, 1.12
_SCRIPTS = {"ru": "CYRILLIC", "uk": "CYRILLIC", "bg": "CYRILLIC", "el": "GREEK"}  # every other language: LATIN


def judge(text: str, context: Context) -> Verdict:
    """The first reason to refuse the page, or None; what the gates measured is in `context.measured`."""
    context.measured.clear()
    for gate in GATES:
        verdict = gate(text, context)
        if verdict is not None:
            return verdict
    return None


class Shared:
    """What the corpora of a run know of each other: their pages and the names of all seeds. One object for all of them."""

    def __init__(self, seeds: Iterable[Seed] = (), near_duplicate: float = 0.8) -> None:
        self.pages = Neighbours(near_duplicate)
        self.owners: dict[str, set[str]] = {}
        self.longest = 1
        for seed in seeds:
            for node in seed.nodes:
                name = " ".join(words(node.name))
                self.owners.setdefault(name, set()).add(seed.id)
                self.longest = max(self.longest, len(name.split()))

    def load(self, corpus: str, pages: Iterable[Page]) -> None:
        """The pages of a corpus that was finished before."""
        for page in pages:
            self.pages.add(Place(corpus, page.spec), sketch(words(page.text)))


@dataclass
class Context:
    """What a gate may look at besides the text: the seed, the prompt, the pages accepted before, and the run's other corpora.

    Attributes:
        kind, prompt: of the page at hand; set before every page.
        shared: what the corpora of the run know of each other; of this corpus alone when none is given.
        measured: of the last page that was judged: `surprisal`, and `sense`, where the gates look at them.
    """

    seed: Seed
    characters: int
    near_duplicate: float
    kind: Kind = "written"
    prompt: str = ""
    shared: Shared | None = None
    measured: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.run = self.shared or Shared((self.seed,), self.near_duplicate)
        self.reference: Frozen = frozen()
        self.names = {node.name.casefold() for node in self.seed.nodes}
        # What stands in the seed's own texts is no leak from another seed, whoever else has a node of that name.
        self.allowed = _names_in(words(self.seed.card()), self.run)
        self._numbers: set[int] = set()
        self._profiles: NDArray[np.float32] = np.zeros((64, len(self.reference.centroids)), np.float32)
        self._written: list[int] = []

    def remember(self, number: int, text: str) -> None:
        """An accepted page: later ones must not be nearly the same."""
        if number in self._numbers:
            return
        self._numbers.add(number)
        self.run.pages.add(Place(self.seed.id, number), _sketch(text))
        if self.kind == "written":
            if len(self._written) == len(self._profiles):
                self._profiles = np.concatenate([self._profiles, np.zeros_like(self._profiles)])
            self._profiles[len(self._written)] = _window(text).profile
            self._written.append(number)

    def nearest_in_sense(self, profile: NDArray[np.float32]) -> tuple[int, float] | None:
        """Number and cosine of the written page that is nearest in sense, or None when there is none yet."""
        if not self._written:
            return None
        cosines = self._profiles[: len(self._written)] @ profile
        best = int(cosines.argmax())
        return self._written[best], float(cosines[best])


# ── form ────────────────────────────────────────────────────────────────────────────────────────────────────────


def length(text: str, context: Context) -> Verdict:
    """Between two fifths and twice the page length; an answer of replay may be shorter."""
    shortest = 40 if context.kind == "replay" else 0.4 * context.characters
    if len(text) < shortest:
        return "too short", f"{len(text)} characters"
    return ("too long", f"{len(text)} characters") if len(text) > 2 * context.characters else None


def whole(text: str, context: Context) -> Verdict:
    """The last sentence is finished."""
    text = text.strip()
    return None if context.kind in _BY_CODE or _last_end(text) == len(text) > 0 else ("cut off", text[-40:])


def looping(text: str, context: Context) -> Verdict:
    """No run of eight words stands twice, four-word runs hardly repeat, and nothing is stammered."""
    found = words(text)
    stammer = next((word for word, *others in _grams(found, 4) if others == [word] * 3), None) or _STAMMER.search(text)
    if stammer:
        return "loop", f"'{stammer if isinstance(stammer, str) else stammer.group(0)[:40]}' over and over"
    long = _grams(found, 8)
    if len(set(long)) < len(long):
        return "loop", "eight words stand twice"
    short = _grams(found, 4)
    share = 1 - len(set(short)) / max(1, len(short))
    return ("loop", f"{share:.0%} of four-word runs repeat") if share > 0.12 else None


def prompt_copy(text: str, context: Context) -> Verdict:
    """The page is not its own prompt, or an example in it, said again."""
    if not context.prompt:
        return None
    asked = _asked(context.prompt)
    copied = next((gram for gram in _grams(words(text), 12) if gram in asked), None)
    return ("copies the prompt", " ".join(copied)) if copied else None


def speaks_of_the_task(text: str, context: Context) -> Verdict:
    """A page is a text, not a talk about writing one."""
    if context.kind not in ("written", "rewritten"):
        return None
    found = _TASK.search(text)
    return ("speaks of the task", found.group(0)) if found else None


def language(text: str, context: Context) -> Verdict:
    """The text is in the seed's language and its script."""
    wanted = context.seed.language
    script = _SCRIPTS.get(wanted, "LATIN")
    if script != "LATIN" or not text.isascii():
        letters = [letter for letter in text if letter.isalpha()]
        foreign = sum(_script(letter) != script for letter in letters) / max(1, len(letters))
        if foreign > 0.03:
            return "wrong script", f"{foreign:.0%} of the letters"
    if len(text) <= 150:  # too little to tell languages apart
        return None
    found = words(text)
    if wanted == "en" and 10 * sum(word in _ENGLISH for word in found) >= len(found):
        return None  # every tenth word is one that only English has; the classifier takes five times as long
    guess = _identifier().classify(text)[0]
    return ("wrong language", str(guess)) if guess != wanted else None


# ── the seed ────────────────────────────────────────────────────────────────────────────────────────────────────


def on_seed(text: str, context: Context) -> Verdict:
    """The page names nodes of its seed: one where the model writes freely, two elsewhere, none in replay."""
    if context.kind == "replay":
        return None
    lower = text.casefold()
    named = [name for name in context.names if name in lower]
    return None if len(named) >= (1 if context.kind == "written" else 2) else ("off the seed", f"{len(named)} of its nodes named")


def strays(text: str, context: Context) -> Verdict:
    """The page does not speak of another seed of the run. One name may be chance: seeds of one theme share their words."""
    if context.kind == "replay":
        return None
    found: dict[str, list[str]] = {}
    for name in _names_in(words(text), context.run) - context.allowed:
        for owner in context.run.owners[name] - {context.seed.id}:
            found.setdefault(owner, []).append(name)
    owner, names = max(found.items(), key=lambda item: (len(item[1]), item[0]), default=("", []))
    return ("names of another seed", f"{', '.join(sorted(names))} of {owner}") if len(names) >= _STRAYED else None


# ── what was there before ───────────────────────────────────────────────────────────────────────────────────────


def new(text: str, context: Context) -> Verdict:
    """Not nearly a page that was accepted before, in this corpus or in another one of the run.

    Replay is looked for in its own corpus only: every expert of a run is asked the same general questions.
    """
    own = context.seed.id
    near = context.run.pages.nearest(_sketch(text), within=own if context.kind == "replay" else None)
    if near is None:
        return None
    place, similarity = near
    return "near-duplicate", f"of page {place.page}{f' of {place.corpus}' if place.corpus != own else ''} ({similarity:.2f})"


def new_in_sense(text: str, context: Context) -> Verdict:
    """A page that the model wrote does not say in other words what another one of this corpus says.

    Composed pages and dialogues are many wordings of the same facts, and are meant to be.
    """
    if context.kind != "written" or context.seed.language != "en":
        return None
    near = context.nearest_in_sense(_window(text).profile)
    if near is not None:
        context.measured["sense"] = round(near[1], 3)
    return ("same in other words", f"as page {near[0]} ({near[1]:.3f})") if near and near[1] >= _SAME_SENSE else None


# ── density ─────────────────────────────────────────────────────────────────────────────────────────────────────


def likely(text: str, context: Context) -> Verdict:
    """The words follow each other neither by rote nor at random: bits per token within the reference's band."""
    if context.kind in _BY_CODE or context.seed.language != "en":
        return None
    band, bits = context.reference.facts["surprisal"], _window(text).surprisal
    context.measured["surprisal"] = round(bits, 3)
    if bits > band["p99"] * _ABOVE:
        return "surprisal too high", f"{bits:.2f} bits a token"
    return ("surprisal too low", f"{bits:.2f} bits a token") if bits < band["p1"] / _BELOW else None


def dense(text: str, context: Context) -> Verdict:
    """The page keeps as many semantic fields active as the plainest pages of the reference, for its length.

    What code composes has the fields of its seed's names, and composing it again would change nothing.
    """
    if context.kind in _BY_CODE or context.seed.language != "en":
        return None
    band, window = context.reference.facts["number"], _window(text)
    least = band["p1"] / _BELOW * min(1.0, window.tokens / 100)
    if window.at_least(context.reference) >= least:
        return None
    number = window.number(context.reference)
    return ("density too low", f"{number:.1f} fields active") if number < least else None


GATES: tuple[Callable[[str, Context], Verdict], ...] = (
    length, whole, prompt_copy, speaks_of_the_task, looping, on_seed, new, strays, language, likely, dense, new_in_sense)


# ── how texts are read ──────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=8)  # the gates of a page all ask for them
def words(text: str) -> tuple[str, ...]:
    """Words in lower case."""
    return tuple(_WORD.findall(text.casefold()))


def trim(text: str) -> str:
    """The text up to its last whole sentence; unchanged when it has none."""
    text = text.strip()
    return text[: _last_end(text)] or text


def _last_end(text: str) -> int:
    """Where the last whole sentence ends, 0 when there is none."""
    for match in reversed(list(_END.finditer(text))):
        stop = match.start() + 1
        if not _NO_END.search(text[text.rfind("\n", 0, stop) + 1 : stop]):
            return match.end()
    return 0


_TASK = re.compile(
    r"\b(as an AI|language model|in one plain sentence|I cannot|Sure,|Here is|Here's|paragraph|the prompt|<\|)", re.IGNORECASE)
_STAMMER = re.compile(r"(?<!\S)(?=\S{24})\S*?(\S{1,8}?)\1{5,}")  # six times the same within one long word
_ENGLISH = frozenset(("the", "of", "and", "to", "that", "it", "with", "for", "not", "his", "from", "have", "this", "you",
                      "which", "are", "were", "had"))


def _grams(found: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(found[i:] for i in range(size)), strict=False))


@lru_cache(maxsize=64)
def _asked(prompt: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_grams(words(prompt), 12))


@lru_cache(maxsize=2)
def _sketch(text: str) -> Any:
    return sketch(words(text))


@lru_cache(maxsize=2)
def _window(text: str) -> Window:
    return read_page(text, frozen())


def _names_in(found: Sequence[str], shared: Shared) -> set[str]:
    runs = {" ".join(gram) for size in range(1, shared.longest + 1) for gram in _grams(found, size)}
    return runs & shared.owners.keys()


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0]


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_DIR / MODEL_FILE)
    identifier.set_languages(["en", "ru", "de", "fr", "es", "it", "pt", "nl", "pl", "uk", "zh", "ja"])
    return identifier
