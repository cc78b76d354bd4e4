"""The bank: sentences that the model wrote for one seed, which composed pages and dialogues draw on.

Every sentence is begun with the words that it must state ("The wet rope leads to the salt jar because"), so that what it
says of the graph is true, and goes through the gates. bank.jsonl is written whole, with what was refused and why, before
the first page: a killed bank is written again from the start, in the same batches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.generator import gates
from rostok.generator.records import BankKind, BankSentence
from rostok.generator.writers import BRIEF, sampled
from rostok.records import read_jsonl, stable_seed, write_atomic
from rostok.seeds.record import Seed

_TRIES = 2  # fresh samples for one sentence; then its place stays empty
_SENTENCE = Sampling(max_tokens=40, temperature=0.8, min_p=0.08, stop=("\n",))
_TRAIT = Sampling(max_tokens=12, temperature=0.8, min_p=0.08, stop=("\n", ".", ",", ";"))


@dataclass(frozen=True)
class _Form:
    """How a kind of sentence is asked for, and the words that it begins with. `x` leads to `y`."""

    asked: str
    start: str
    sampling: Sampling = _SENTENCE
    of_steps: bool = False


_FORMS: dict[BankKind, tuple[_Form, ...]] = {
    "definition": (_Form("In one plain sentence, say what the {x} is.", "The {x} is"),
                   _Form("In one plain sentence, say how one knows the {x}.", "One knows the {x} by")),
    "scene": (_Form("Inside that scene something smaller happens with the {x}. Tell it in one plain sentence.",
                    "At that moment the {x}"),
              _Form("Look closer still at the {x}. Tell one gesture in one plain sentence.", "Under the {x} there lay")),
    "reason": (_Form("In one plain sentence, tell why the {x} leads to the {y}.",
                     "The {x} leads to the {y} because", of_steps=True),
               _Form("In one plain sentence, tell what is seen when the {y} comes after the {x}.",
                     "When the {y} comes after the {x},", of_steps=True)),
    "answer": (_Form("What is the {x} there for? Answer in one plain sentence.", "The {x} is there to"),
               _Form("What would be missing without the {x}? Answer in one plain sentence.", "Without the {x}")),
    "trait": (_Form("Name in two to five words what the {x} is known for.", "The {x} is known for its", _TRAIT),),
}


@dataclass(frozen=True)
class Bank:
    """The sentences of one seed, by kind and subject."""

    sentences: tuple[BankSentence, ...] = ()
    _by: dict[tuple[str, tuple[str, ...]], list[BankSentence]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for sentence in self.sentences:
            self._by.setdefault((sentence.kind, sentence.about), []).append(sentence)

    def about(self, kind: BankKind, *keys: str) -> list[BankSentence]:
        """The sentences of a kind about a node, or a step."""
        return self._by.get((kind, keys), [])

    def texts(self, kind: BankKind, subjects: Iterable[str | tuple[str, str]]) -> list[str]:
        """The texts of a kind about any of these nodes or steps."""
        keys = [(subject,) if isinstance(subject, str) else subject for subject in subjects]
        return [sentence.text for subject in keys for sentence in self.about(kind, *subject)]


def read_bank(path: Path) -> Bank:
    """The accepted sentences of a bank.jsonl; an empty bank when there is none. Raises `DataError` for a broken line."""
    return Bank(tuple(sentence for sentence in read_jsonl(path, BankSentence) if not sentence.refused))


def write_bank(seed: Seed, path: Path, size: int, random_seed: int, engine: Engine, model_sha256: str, *,
               on_sentence: Callable[[int], None] = lambda tokens: None) -> Bank:
    """Let the model write `size` sentences of each kind about each node and step, and keep them in `path`.

    Raises:
        StorageError: the disk refused; nothing was written.
    """
    judge = _Judge(seed)
    done: list[BankSentence] = []
    open_ = list(_places(seed, size))
    for attempt in range(_TRIES):
        asked = [_request(seed, kind, about, place, attempt, random_seed) for kind, about, place in open_]
        futures = engine.submit_all(asked)
        refused = []
        for (kind, about, place), request, future in zip(open_, asked, futures, strict=True):
            completion = future.result()
            text = _whole(request.prefill + completion.text, kind)
            cut = kind == "trait" and completion.finish == "length"
            reason = "cut off" if cut else judge(kind, about, text, request)
            done.append(BankSentence(
                kind=kind, about=about, place=place, attempt=attempt, text=text, refused=reason, random_seed=request.seed,
                question=request.messages[-1].content.split(" Answer in")[0] if kind == "answer" else "",
                tokens=completion.tokens, sampled=sampled(request, engine, model_sha256)))
            if reason:
                refused.append((kind, about, place))
            on_sentence(completion.tokens)
        open_ = refused
    write_atomic(path, "".join(sentence.line() + "\n" for sentence in done))
    return Bank(tuple(sentence for sentence in done if not sentence.refused))


def _places(seed: Seed, size: int) -> Iterator[tuple[BankKind, tuple[str, ...], int]]:
    nodes = [(node.key,) for node in seed.nodes]
    steps = [(step.source, step.target) for step in seed.walk()]
    for place in range(size):
        for kind, forms in _FORMS.items():
            for about in steps if forms[0].of_steps else nodes:
                yield kind, about, place


def _request(seed: Seed, kind: BankKind, about: tuple[str, ...], place: int, attempt: int, random_seed: int) -> Request:
    dice = stable_seed(random_seed, seed.id, "bank", kind, about, place, attempt)
    form = _FORMS[kind][(dice if attempt else place) % len(_FORMS[kind])]
    names = dict(zip("xy", map(seed.name, about), strict=False))
    # No path in the brief: with it every fourth sentence named a node that it was not asked about.
    return Request((Message("system", f"{BRIEF} {seed.scene}"), Message("user", form.asked.format(**names))), form.sampling,
                   prefill=form.start.format(**names), seed=dice, shared=1)


def _whole(text: str, kind: BankKind) -> str:
    text = " ".join(text.split())
    if kind == "trait":
        return text.partition("known for its ")[2].strip(" '\"*“”")
    first = re.search(r"[.!?…](?=\s|$)", text)
    return text[: first.end()] if first else text


class _Judge:
    """Why a sentence is refused, or an empty string: the pages' gates, as far as they fit a sentence, and three of its own."""

    def __init__(self, seed: Seed) -> None:
        self._names = {node.key: node.name.casefold() for node in seed.nodes}
        self._known = {node.gloss.casefold() for node in seed.nodes} | {step.sentence.casefold() for step in seed.transitions}
        self._context = gates.Context(seed, 120, 0.7)
        self._count = 0

    def __call__(self, kind: BankKind, about: tuple[str, ...], text: str, request: Request) -> str:
        lower = text.casefold()
        added = len(gates.words(text)) - (0 if kind == "trait" else len(gates.words(request.prefill)))
        if any(name in lower and name not in {self._names[key] for key in about} for name in self._names.values()):
            return "names another node"  # what it says of that one may be false
        if not (2 if kind == "trait" else 4) <= added <= 40:
            return "too short" if added < 4 else "too long"
        if kind == "trait":
            return self._plain(text)
        if lower in self._known:
            return "known already"
        self._context.prompt = " ".join(message.content for message in request.messages)
        for gate in (gates.whole, gates.looping, gates.prompt_copy, gates.speaks_of_the_task, gates.language, gates.new):
            verdict = gate(text, self._context)
            if verdict is not None:
                return verdict[0]
        self._count += 1
        self._context.remember(self._count, text)
        return self._plain(text)

    def _plain(self, text: str) -> str:
        return "not plain" if any(mark in text for mark in "#*[]|<>{}_:\n") else ""
