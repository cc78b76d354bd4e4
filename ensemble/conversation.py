"""The experts of a run as one: a LangGraph conversation  recall -> route -> answer -> remember.

    recall    what the user said earlier in this conversation that bears on the question
    route     the seed whose remembered texts lie nearest, or nobody: then the base answers
    answer    the expert (the base under its adapter) reads the nearest pages of its seed, quoted, and speaks
    remember  the turn goes into the thread, the user's words into the memory; the model's never do

A thread is saved once a turn is whole (`durability="exit"`), so a stopped answer leaves no half of a turn behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from rostok.config import Mixing, Settings
from rostok.embedder import Embedder
from rostok.engines.open import open_engine
from rostok.engines.protocol import Engine, Message, Sampling
from rostok.ensemble.history.answer import BASE, Answer, Note
from rostok.ensemble.history.archive import Archive, Forgettable, check_message, open_archive
from rostok.ensemble.history.threads import Conversations, Making, new_turn
from rostok.ensemble.prompt import HISTORY
from rostok.ensemble.recall.index import index
from rostok.ensemble.recall.memory import Memory, Remembered
from rostok.ensemble.registry import admit
from rostok.ensemble.routing.calibrate import open_router
from rostok.ensemble.routing.router import Route, Router
from rostok.ensemble.speak import Speaker
from rostok.errors import QuestionError, RunError
from rostok.models import find_base, find_embedder
from rostok.records import stable_seed
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.swarm.records import Expert

_RECALLED = 2  # notes, and earlier turns of the user, that an answer reads at most

OnText = Callable[[str], None]
OnRoute = Callable[[Route], None]


class _State(TypedDict):
    """One thread. Plain values only; `thread` and `turns` lie in conversations.sqlite, the others live for one turn."""

    thread: str
    turns: list[dict[str, Any]]      # entries of what was said: see rostok.ensemble.history.checkpoints
    id: str                          # of the turn in the making
    question: str
    pin: str | None
    attempt: int                     # how often this question was asked again; then the last turn is replaced
    recalled: list[dict[str, Any]]   # Remembered
    route: dict[str, Any]            # Route
    answer: dict[str, Any]           # Answer


@dataclass(frozen=True)
class _Wish:
    """How one answer is wanted, and who listens to it."""

    on_text: OnText | None = None
    on_route: OnRoute | None = None
    mixing: Mixing | None = None
    sampling: Sampling | None = None
    stop: threading.Event | None = None
    seed: int | None = None
    retrieval: bool = True
    holds: dict[str, str] = field(default_factory=dict)  # {id: text} of the user's words that it is made of


class Ensemble:
    """Router, experts and memory that answer as one. Opened by `open_ensemble`; may be used from many threads at once.

    Attributes:
        experts: {seed: expert} of those that serve.
        skipped: one sentence for each expert that does not, by name and with the reason.
        archive: what people said and noted.
    """

    def __init__(self, run: Run, settings: Settings, engine: Engine, embedder: Embedder, memory: Memory,
                 router: Router, experts: Sequence[Expert], *, archive: Archive, skipped: Sequence[str] = (),
                 read_memories: bool = True, max_tokens: int = 120) -> None:
        self.run, self.settings, self.engine, self.embedder = run, settings, engine, embedder
        self.memory, self.router, self.archive = memory, router, archive
        self.experts = {expert.seed: expert for expert in experts}
        self.titles = {**{expert.seed: expert.title for expert in experts},
                       **{seed.id: seed.title for seed in Library(run.seeds).seeds()}}
        self.skipped = list(skipped)
        self.read_memories = read_memories
        self.speaker = Speaker(engine, self.experts, self.titles, settings.ensemble, settings.random_seed,
                               max_tokens=max_tokens)
        self.graph = self._build().compile(checkpointer=archive.conversations.checkpoints)

    # ── talking ─────────────────────────────────────────────────────────────────────────────────────────────

    def ask(self, question: str, thread: str, on_text: OnText | None = None, on_route: OnRoute | None = None,
            pin: str | None = None, *, mixing: Mixing | None = None, stop: threading.Event | None = None, again: bool = False,
            retrieval: bool | None = None) -> Answer:
        """Answer a question in a conversation, which goes on where it ended, after a restart too.

        Args:
            on_text: gets the answer piece by piece, in the caller's thread.
            on_route: gets the route before the first piece, and again, with another seed, when somebody else speaks after all.
            pin: a seed's id, an expert's id (or the beginning of one) or title, or `base`: who answers, whatever the router
                says.
            mixing: how several experts answer together; None as it is set.
            stop: set from any thread, it ends the answer; the turn is kept with what was said so far.
            again: replace the last turn, by another draw; an empty question is the one of that turn, another one edits it.
                Stopped before its first word, it replaces nothing, and the answer has no id.
            retrieval: whether the answer reads pages and memories; None as it is set.

        Raises:
            QuestionError: the question is empty or far too long.
            RunError: the pinned expert does not exist, or there is no turn to be replaced.
            ModelError: the question does not fit the model's context.
            DataError: memory or conversations are damaged.
        """
        making = Making(stop or threading.Event(), {})
        wish = _Wish(on_text, on_route, mixing, None, making.stop, None, self._retrieves(retrieval), making.holds)
        with self.conversations.speaking(thread, making):
            turn, attempt = new_turn(), 0
            if again:
                last = self.conversations.checkpoints.read(thread)[-2:]
                if not last:
                    raise RunError("nothing was asked in this conversation yet, so there is nothing to answer again.")
                question = question if question.strip() else str(last[0]["content"])
                turn = self.conversations.turns(thread)[-1].id
                attempt = int(last[1].get("attempt", 0)) + 1
            fresh: Any = {"thread": thread, "id": turn, "question": check_message(question), "pin": self._pinned(pin),
                          "attempt": attempt}
            making.holds[turn] = fresh["question"]
            config: RunnableConfig = {"configurable": {"thread_id": thread}}
            try:
                final = self.graph.invoke(fresh, config, context=wish, durability="exit")
            finally:
                self.archive.words.settle(turn)
        return Answer.model_validate(final["answer"])

    def reply(self, messages: Sequence[Message], on_text: OnText | None = None, on_route: OnRoute | None = None,
              pin: str | None = None, *, sampling: Sampling | None = None, mixing: Mixing | None = None,
              stop: threading.Event | None = None, seed: int | None = None, retrieval: bool | None = None,
              notes: bool = True) -> Answer:
        """Answer the last message of a conversation that the caller keeps; nothing is kept here, but notes are recalled.

        Args:
            messages: as an OpenAI client sends them; the last is the user's.
            sampling: None draws as `ask` does.
            seed: of the draw; None takes one that belongs to the question.
            notes: whether notes may be recalled; not for a caller who may be somebody else than the one who wrote them.

        Raises:
            as `ask`.
        """
        if not messages or messages[-1].role != "user":
            raise QuestionError("the last message must be the user's. Add one with the role user.")
        question = check_message(messages[-1].content)
        wish = _Wish(on_text, on_route, mixing, sampling, stop, seed, self._retrieves(retrieval))
        route = self._routed(question, self._pinned(pin), wish)
        recalled = self._recalled(question, wish) if notes else []
        return self._speak(question, route, recalled, messages[:-1], wish)

    def route(self, question: str) -> Route:
        """Who would answer, and why."""
        return self.router.route(check_message(question))

    def compare(self, question: str, count: int = 2) -> list[Answer]:
        """The base and the `count` best experts on the same question, outside of every conversation; the base first."""
        route = self.route(question)
        best = [seed for seed in route.scores if seed in self.experts][: max(0, count)]
        wish = _Wish(mixing="one", retrieval=self.read_memories)
        return [self._speak(question, route.model_copy(update={"seed": seed}), (), (), wish) for seed in (None, *best)]

    def title(self, seed: str | None) -> str:
        """What people call who answers."""
        return self.titles.get(seed, seed) if seed is not None else BASE

    # ── what is remembered ──────────────────────────────────────────────────────────────────────────────────

    @property
    def conversations(self) -> Conversations:
        """All conversations of the run."""
        return self.archive.conversations

    def notes(self) -> Sequence[Note]:
        """See `Archive.notes`."""
        return self.archive.notes()

    def remember(self, text: str) -> str:
        """See `Archive.remember`."""
        return self.archive.remember(text)

    def found(self, what: str | Sequence[str]) -> Forgettable:
        """See `Archive.found`."""
        return self.archive.found(what)

    def forget(self, what: str | Sequence[str]) -> int:
        """See `Archive.forget`."""
        return self.archive.forget(what)

    def recall(self, question: str, count: int = 5) -> list[Remembered]:
        """See `Archive.recall`."""
        return self.archive.recall(question, count)

    # ── the graph ───────────────────────────────────────────────────────────────────────────────────────────

    def _build(self) -> StateGraph[_State, _Wish]:
        def recall(state: _State, runtime: Runtime[_Wish]) -> dict[str, Any]:
            before = len(_before(state)) // 2 - HISTORY
            found = self._recalled(state["question"], runtime.context, state["thread"], before)
            runtime.context.holds.update({one.id: one.text for one in found})
            return {"recalled": [one.model_dump() for one in found]}

        def route(state: _State, runtime: Runtime[_Wish]) -> dict[str, Any]:
            return {"route": self._routed(state["question"], state["pin"], runtime.context).model_dump()}

        def answer(state: _State, runtime: Runtime[_Wish]) -> dict[str, Any]:
            seed = stable_seed(self.settings.random_seed, state["question"], state["attempt"]) if state["attempt"] else None
            spoken = self._speak(
                state["question"], Route.model_validate(state["route"]),
                [Remembered.model_validate(one) for one in state["recalled"]],
                [Message(entry["role"], entry["content"]) for entry in _answered(_before(state))],
                replace(runtime.context, seed=seed))
            return {"answer": spoken.model_copy(update={"id": state["id"]}).model_dump()}

        def remember(state: _State) -> dict[str, Any]:
            before, now, answer = _before(state), time.time(), state["answer"]
            if state["attempt"] and answer["finish"] == "stopped" and not answer["text"]:
                return {"answer": {**answer, "id": ""}}  # there is nothing to put in the old turn's place
            self.archive.words.used([one["id"] for one in answer["memories"] if one["trust"] != "corpus"])
            self.archive.words.add_turn(state["id"], state["thread"], len(before) // 2, state["question"])
            return {"turns": [
                *before, {"role": "user", "content": state["question"], "title": "", "id": state["id"], "time": now},
                {"role": "assistant", "content": answer["text"], "title": answer["title"], "attempt": state["attempt"]}]}

        graph = StateGraph(_State, context_schema=_Wish)
        graph.add_node("recall", recall)
        graph.add_node("route", route)
        graph.add_node("answer", answer)
        graph.add_node("remember", remember)
        for source, target in ((START, "recall"), ("recall", "route"), ("route", "answer"), ("answer", "remember"),
                               ("remember", END)):
            graph.add_edge(source, target)
        return graph

    # ── one answer ──────────────────────────────────────────────────────────────────────────────────────────

    def _recalled(self, question: str, wish: _Wish, thread: str | None = None, before: int = 0) -> list[Remembered]:
        if not wish.retrieval:
            return []
        return self.archive.words.recall(question, self.settings.ensemble, thread=thread, before=before, count=_RECALLED)

    def _routed(self, question: str, pin: str | None, wish: _Wish) -> Route:
        found = self.router.route(question)
        if pin is not None:
            found = found.model_copy(update={"seed": None if pin == BASE else pin, "pinned": True})
        if wish.on_route is not None:
            wish.on_route(found)
        return found

    def _speak(self, question: str, route: Route, recalled: Sequence[Remembered], history: Sequence[Message],
               wish: _Wish) -> Answer:
        def speaks(seed: str | None) -> None:
            if wish.on_route is not None:
                wish.on_route(route.model_copy(update={"seed": seed}))

        spoken = self.speaker.speak(
            question, route, history, [*recalled, *self._pages(question, route, wish)], mixing=wish.mixing,
            sampling=wish.sampling, on_text=wish.on_text, on_speaker=speaks, stop=wish.stop, seed=wish.seed)
        seed = spoken.experts[0] if spoken.experts else None
        return Answer(
            text=spoken.text, seed=seed, experts=spoken.experts, title=self.title(seed), route=route, memories=spoken.memories,
            prompt_tokens=spoken.prompt_tokens, tokens=spoken.tokens, seconds=spoken.seconds, finish=spoken.finish,
            note=spoken.note)

    def _pages(self, question: str, route: Route, wish: _Wish) -> list[Remembered]:
        """The nearest pages of those who are about to speak; a splice speaks for the seeds of all its parents."""
        if not wish.retrieval:
            return []
        count = self.settings.router.memories
        names = [one for name, _ in self.speaker.speakers(route, wish.mixing) for one in self.experts[name].seeds]
        found = [page for name in names for page in self.memory.pages(question, name, self.title(name), count)]
        return sorted(found, key=lambda page: -page.similarity)[:count]

    def _retrieves(self, wanted: bool | None) -> bool:
        return self.read_memories if wanted is None else wanted

    def check_pin(self, pin: str | None) -> None:
        """Raises `RunError` when nobody is meant by `pin`, or more than one."""
        self._pinned(pin)

    def _pinned(self, pin: str | None) -> str | None:
        if pin is None or pin == BASE:
            return pin
        found = [seed for seed, expert in self.experts.items()
                 if seed.startswith(pin) or expert.id.startswith(pin) or self.title(seed).casefold() == pin.casefold()]
        if len(found) != 1:
            known = ", ".join(f"{seed} ({self.title(seed)})" for seed in self.experts)
            raise RunError(f"{'no expert' if not found else 'more than one expert'} '{pin}' serves. "
                           f"There are: {known}, and {BASE}.")
        return found[0]


def _before(state: _State) -> list[dict[str, Any]]:
    """The turns before the one in the making: without the last, where that is to be replaced."""
    return state.get("turns", [])[: -2 if state["attempt"] else None]


def _answered(turns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The turns without those that were stopped before a word was said: a model would take up the silence."""
    return [entry for place in range(0, len(turns) - 1, 2) if str(turns[place + 1]["content"]).strip()
            for entry in turns[place : place + 2]]


@contextmanager
def open_ensemble(run: Run, settings: Settings, *, read_memories: bool = True, max_tokens: int = 120,
                  sequences: int = 4) -> Iterator[Ensemble]:
    """Load base, experts, memory and router of a run. Call with the run held.

    A memory that is out of date or damaged is built anew: pages from the corpora, words from the conversations.

    Args:
        sequences: answers in the making at once; more wait for their turn.

    Raises:
        RunError: the run has no experts yet, or none of them can serve.
        ModelError: a model is missing, or an expert belongs to another base.
        DataError: a file of the run is damaged.
    """
    if not run.registry.is_file():
        raise RunError(f"{run.folder} has no experts yet. Train them: rostok swarm train {run.folder}")
    seeds = Library(run.seeds).seeds()
    base = find_base(settings.models.base)
    serving = admit(run, seeds, base)
    embedder = Embedder(find_embedder(settings.models.embedder))
    index(run, seeds, embedder)
    titles = {seed.id: seed.title for seed in seeds}
    with Memory(run.memory, embedder) as memory, open_archive(run, memory, settings.ensemble, titles) as archive:
        router = open_router(run, settings, memory, seeds)
        with open_engine(base, settings.models, sequences=sequences) as engine:
            serving.load(engine, settings.ensemble)
            yield Ensemble(run, settings, engine, embedder, memory, router, serving.experts, archive=archive,
                           skipped=serving.skipped, read_memories=read_memories and settings.ensemble.retrieval,
                           max_tokens=max_tokens)
