"""One answer: the expert that was chosen speaks, or the base, or several experts together.

    one       the best expert at full weight (the default: soft mixtures tend to collapse on one, 2606.31413)
    adapters  two or three experts in one pass, their changes of the weights added up by the router's weights
    tokens    each computes the next word's distribution, and the mean by the router's weights is drawn from (cluster-BTM)
    judge     each answers; the answer stands that is likeliest under all of them, by the router's weights

All but `one` cost more, and `Spoken` says how much.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from queue import Empty, SimpleQueue

from rostok.config import EnsembleSettings, Mixing
from rostok.engines.protocol import Completion, Engine, Message, Request, Sampling
from rostok.ensemble.prompt import compose
from rostok.ensemble.recall.memory import Remembered
from rostok.ensemble.routing.router import Route
from rostok.errors import AdapterError
from rostok.records import stable_seed

_LOOK = 0.05   # seconds between two looks at whether somebody wants a stop, while no word comes
_LEAST = 0.1   # an expert with less of the votes does not speak beside others

Speakers = tuple[tuple[str, float], ...]  # seeds with weights that add up to 1; none: the base


@dataclass(frozen=True)
class Spoken:
    """An answer and what it cost.

    Attributes:
        experts: seeds of all who spoke, the one whose words stand first; none for the base.
        finish: `stop`, `length` (cut at the longest an answer may be) or `stopped` (by the person).
        prompt_tokens, tokens: read and drawn by all who spoke together, the judge too.
        memories: the texts that stood in the prompt.
        note: why somebody else spoke than was wanted, or "".
    """

    text: str
    experts: tuple[str, ...]
    finish: str
    prompt_tokens: int
    tokens: int
    seconds: float
    memories: tuple[Remembered, ...]
    note: str = ""


class Speaker:
    """Lets experts speak through one engine. May be called from many threads at once.

    Args:
        serving: names of the experts whose adapters the engine has.
        titles: what people call the experts, those that do not serve too.
        max_tokens: of an answer where the caller brings no sampling of its own.
    """

    def __init__(self, engine: Engine, serving: Collection[str], titles: Mapping[str, str], settings: EnsembleSettings,
                 random_seed: int = 0, *, max_tokens: int = 120) -> None:
        self.engine, self.serving, self.titles, self.settings = engine, serving, titles, settings
        self._random_seed = random_seed
        self.sampling = Sampling(max_tokens=max_tokens, temperature=0.3, dry=0.8)

    def speak(self, question: str, route: Route, history: Sequence[Message] = (), memories: Sequence[Remembered] = (), *,
              mixing: Mixing | None = None, sampling: Sampling | None = None,
              on_text: Callable[[str], None] | None = None, on_speaker: Callable[[str | None], None] | None = None,
              stop: threading.Event | None = None, seed: int | None = None) -> Spoken:
        """Answer a question that was routed.

        Args:
            history: the conversation so far.
            memories: texts that may stand in the prompt, the most important first.
            on_text: gets the answer piece by piece, in the caller's thread.
            on_speaker: called before the first piece when somebody else speaks than the first of `speakers`; None is the base.
            stop: set from any thread, it ends the answer with what was said so far.
            seed: of the draw; None takes one that belongs to the question, so that the same question has the same answer.

        Raises:
            ModelError: the question does not fit the context, or the engine failed.
        """
        started = time.monotonic()
        speakers, note = self._who(route, mixing or self.settings.mixing)
        how = (mixing or self.settings.mixing) if len(speakers) > 1 else "one"
        drawn = sampling or self.sampling
        messages, used = compose(self.engine, question, history, memories, drawn.max_tokens)
        request = Request(messages=messages, sampling=drawn,
                          seed=stable_seed(self._random_seed, question) if seed is None else seed)
        turn = _Turn(self.engine, on_text, stop, on_speaker)
        experts: tuple[str, ...]
        try:
            if how == "judge":
                said, experts = _judged(turn, request, speakers)
            else:
                said, experts = turn.say(_shared(request, speakers, how)), tuple(name for name, _ in speakers)
                if how == "tokens":  # each of them has read the prompt, and every word that was drawn
                    said = replace(said, prompt_tokens=said.prompt_tokens * len(experts), tokens=said.tokens * len(experts))
        except AdapterError:  # an adapter is read before the first word
            if not speakers:
                raise
            turn.change_to(None)
            said, experts = turn.say(request), ()
            names = ", ".join(f"“{self.titles.get(name, name)}”" for name, _ in speakers)
            note = f"the file of the expert {names} was changed or is gone, so the base answers"
        return Spoken(text=said.text.strip(), experts=experts, finish=said.finish, prompt_tokens=said.prompt_tokens,
                      tokens=said.tokens, seconds=round(time.monotonic() - started, 3), memories=tuple(used), note=note)

    def speakers(self, route: Route, mixing: Mixing | None = None) -> Speakers:
        """Who would speak: experts that serve, with weights that add up to 1, the strongest first; none is the base."""
        return self._who(route, mixing or self.settings.mixing)[0]

    def _who(self, route: Route, mixing: Mixing) -> tuple[Speakers, str]:
        if route.seed is None:
            return (), ""
        if route.seed not in self.serving:
            return (), f"the expert “{self.titles.get(route.seed, route.seed)}” does not serve, so the base answers"
        if mixing == "one" or route.pinned:
            return ((route.seed, 1.0),), ""
        if mixing != "judge" and not self.engine.mixes:
            return ((route.seed, 1.0),), "this engine gives an answer one adapter, so one expert answers"
        total = sum(route.scores.values()) or 1.0
        near = [(name, weight / total) for name, weight in route.scores.items()
                if name in self.serving and (name == route.seed or weight / total >= _LEAST)]
        near = sorted(near, key=lambda item: (item[0] != route.seed, -item[1]))[: self.settings.experts]
        whole = sum(weight for _, weight in near)
        return tuple((name, round(weight / whole, 4)) for name, weight in near), ""


def _shared(request: Request, speakers: Speakers, how: Mixing) -> Request:
    """The request as one expert, several in one pass, or several word by word answer it."""
    if not speakers:
        return request
    if how == "adapters":
        return replace(request, blend=speakers)
    if how == "tokens":
        return replace(request, voices=speakers)
    return replace(request, adapter=speakers[0][0])


def _judged(turn: _Turn, request: Request, speakers: Speakers) -> tuple[Completion, tuple[str, ...]]:
    """Everybody answers; the answer with the highest mean likelihood a token, weighted over all speakers, stands."""
    answers = turn.all([replace(request, adapter=name) for name, _ in speakers])
    if any(answer.finish == "stopped" for answer in answers):
        first = next((k for k, answer in enumerate(answers) if answer.text), 0)
        names = [name for name, _ in speakers]
        if first:
            turn.change_to(names[first])
        turn.tell(answers[first].text)
        return _sum(answers, answers[first]), (names.pop(first), *names)
    prompt = turn.engine.prompt(request)
    scores = [turn.engine.submit_scores(prompt, [answer.text or "." for answer in answers], adapter=name)
              for name, _ in speakers]
    read = [[future.result() for future in row] for row in scores]
    likely = [math.log(sum(weight * math.exp(row[k].mean) for (_, weight), row in zip(speakers, read, strict=True)))
              for k in range(len(answers))]
    best = max(range(len(answers)), key=lambda k: likely[k])
    names = [name for name, _ in speakers]
    if best:
        turn.change_to(names[best])
    turn.tell(answers[best].text)
    judged = sum(answer.prompt_tokens + score.tokens for row in read for answer, score in zip(answers, row, strict=True))
    whole = _sum(answers, answers[best])
    return replace(whole, prompt_tokens=whole.prompt_tokens + judged), (names.pop(best), *names)


def _sum(answers: Sequence[Completion], chosen: Completion) -> Completion:
    return replace(chosen, prompt_tokens=sum(one.prompt_tokens for one in answers), tokens=sum(one.tokens for one in answers))


class _Turn:
    """The engine at work for one answer, with somebody who listens and may stop it."""

    def __init__(self, engine: Engine, on_text: Callable[[str], None] | None, stop: threading.Event | None,
                 on_speaker: Callable[[str | None], None] | None) -> None:
        self.engine, self._on_text, self._stop, self._on_speaker = engine, on_text, stop, on_speaker

    def change_to(self, seed: str | None) -> None:
        """Tell who speaks, where that is not who was to."""
        if self._on_speaker is not None:
            self._on_speaker(seed)

    def tell(self, piece: str) -> None:
        """Give a piece of text to whoever listens."""
        if self._on_text is not None and piece:
            self._on_text(piece)

    def say(self, request: Request) -> Completion:
        """The completion of one request, told as it comes."""
        return self._gather([request], tell=True)[0]

    def all(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions of several requests, told to nobody yet."""
        return self._gather(requests, tell=False)

    def _gather(self, requests: Sequence[Request], tell: bool) -> list[Completion]:
        # The pieces change threads here: a caller's mistake in `on_text` must not stop the engine's own thread.
        pieces: _Pieces = SimpleQueue()
        said: list[list[str]] = [[] for _ in requests]
        futures: list[Future[Completion]] = []
        try:
            for number, request in enumerate(requests):
                future = self.engine.submit(request, partial(_put, pieces, number))
                future.add_done_callback(partial(_end, pieces, number))
                futures.append(future)
            open_ones = len(futures)
            while open_ones and not (self._stop is not None and self._stop.is_set()):
                try:
                    number, piece = pieces.get(timeout=_LOOK if self._stop is not None else None)
                except Empty:
                    continue
                if piece is None:
                    open_ones -= 1
                else:
                    said[number].append(piece)
                    if tell:
                        self.tell(piece)
            return [future.result() if future.done() else self._cut(future, request, "".join(words))
                    for future, request, words in zip(futures, requests, said, strict=True)]
        except BaseException:  # Ctrl-C too: the engine stops working on it
            for future in futures:
                future.cancel()
            raise

    def _cut(self, future: Future[Completion], request: Request, text: str) -> Completion:
        """What was said until the stop."""
        if not future.cancel() and not future.cancelled():  # it was done in this very moment
            return future.result()
        return Completion(text, "stopped", len(self.engine.tokenize(self.engine.prompt(request))),
                          len(self.engine.tokenize(text)) if text else 0)


_Pieces = SimpleQueue[tuple[int, str | None]]


def _put(pieces: _Pieces, number: int, piece: str) -> None:
    pieces.put((number, piece))


def _end(pieces: _Pieces, number: int, _: Future[Completion]) -> None:
    pieces.put((number, None))
