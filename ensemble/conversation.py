"""The experts of a run as one: a LangGraph conversation  recall -> route -> answer -> remember.

    recall    what the user said earlier in this conversation that bears on the question
    route     the seed whose remembered texts lie nearest, or nobody: then the base answers
    answer    the expert (the base under its adapter) reads the nearest pages of its seed, quoted, and speaks
    remember  the turn goes into the thread, the user's words into the memory; the model's never do

A thread is saved once a turn is whole (`durability="exit"`), so a stopped answer leaves no half of a turn behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from rostok.config import Settings
from rostok.embedder import Embedder
from rostok.engines.open import open_engine
from rostok.engines.protocol import Engine, Message
from rostok.ensemble.index import index
from rostok.ensemble.memory import Memory, Remembered
from rostok.ensemble.prompt import HISTORY
from rostok.ensemble.registry import admit
from rostok.ensemble.router import Route, Router, calibrate
from rostok.ensemble.speak import Speaker
from rostok.ensemble.threads import open_threads
from rostok.errors import RunError
from rostok.models import find_base, find_embedder
from rostok.records import Record
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.swarm.records import Expert

BASE = "base"
_SEQUENCES = 4
_EARLIER = 2  # turns of the user, older than those read again, that are recalled at most
_EARLIER_SIMILARITY = 0.35  # all-MiniLM-L6-v2: "I am a baker"/"what is my job?" 0.37, unrelated pairs up to 0.21


class Answer(Record):
    """What came back.

    Attributes:
        seed: of the expert that spoke, None for the base.
        title: of that seed, or `base`.
        score, threshold: as in `Route`.
        memories: the texts that stood in the prompt.
        finish: `stop`, or `length` when it was cut at the longest an answer may be.
        note: why somebody else spoke than the router wanted, or "".
    """

    text: str
    seed: str | None
    title: str
    score: float
    threshold: float
    memories: tuple[Remembered, ...]
    tokens: int
    seconds: float
    finish: str
    note: str = ""


class _State(TypedDict):
    """One thread. Plain values only: this is what lies in conversations.sqlite."""

    thread: str
    question: str
    pin: str | None
    turns: list[dict[str, str]]      # role, content, title of who spoke
    earlier: list[dict[str, Any]]    # Remembered
    route: dict[str, Any]            # Route
    answer: dict[str, Any]           # Answer


@dataclass(frozen=True)
class _Listeners:
    on_text: Callable[[str], None] | None = None
    on_route: Callable[[Route], None] | None = None


class Ensemble:
    """Router, experts and memory that answer as one. Opened by `open_ensemble`.

    Attributes:
        experts: {seed: expert} of those that serve.
        skipped: one sentence for each expert that does not, by name and with the reason.
    """

    def __init__(self, run: Run, settings: Settings, engine: Engine, embedder: Embedder, memory: Memory,
                 router: Router, experts: Sequence[Expert], *, threads: BaseCheckpointSaver[Any],
                 skipped: Sequence[str] = (), read_memories: bool = True, max_tokens: int = 120) -> None:
        self.run, self.settings, self.engine, self.embedder = run, settings, engine, embedder
        self.memory, self.router = memory, router
        self.experts = {expert.seed: expert for expert in experts}
        self.titles = {**{expert.seed: expert.title for expert in experts},
                       **{seed.id: seed.title for seed in Library(run.seeds).seeds()}}
        self.skipped = list(skipped)
        self.read_memories = read_memories
        self.speaker = Speaker(engine, self.experts, self.titles, settings.ensemble, settings.random_seed,
                               max_tokens=max_tokens)
        self.graph = self._build().compile(checkpointer=threads)

    def ask(self, question: str, thread: str, on_text: Callable[[str], None] | None = None,
            on_route: Callable[[Route], None] | None = None, pin: str | None = None) -> Answer:
        """Answer a question in a conversation, which goes on where it ended, after a restart too.

        Args:
            on_text: gets the answer piece by piece, in the caller's thread.
            on_route: gets the route before the first piece.
            pin: a seed's id, an expert's id (or the beginning of one) or title, or `base`: who answers, whatever the router
                says.

        Raises:
            RunError: the pinned expert does not exist, or the question is empty.
            ModelError: the question does not fit the model's context.
            DataError: memory or conversations are damaged.
        """
        if not question.strip():
            raise RunError("the question is empty. Ask something.")
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        fresh: Any = {"thread": thread, "question": question.strip(), "pin": self._pinned(pin)}
        final = self.graph.invoke(fresh, config, context=_Listeners(on_text, on_route), durability="exit")
        return Answer.model_validate(final["answer"])

    def compare(self, question: str) -> tuple[Answer, Answer]:
        """The base alone and the ensemble on the same question, outside of every conversation."""
        route = self.router.route(question)
        alone = route.model_copy(update={"seed": None})
        return self._speak(question, alone), self._speak(question, route)

    def turns(self, thread: str) -> list[dict[str, str]]:
        """The whole turns of a conversation: role, content, and the title of who spoke."""
        state = self.graph.get_state({"configurable": {"thread_id": thread}})
        return list(state.values.get("turns", []))

    def title(self, seed: str | None) -> str:
        """What people call who answers."""
        return self.titles.get(seed, seed) if seed is not None else BASE

    # ── the graph ───────────────────────────────────────────────────────────────────────────────────────────

    def _build(self) -> StateGraph[_State, _Listeners]:
        def recall(state: _State) -> dict[str, Any]:
            before = len(state.get("turns", [])) // 2 - HISTORY
            earlier = self.memory.said(state["question"], state["thread"], before, _EARLIER, _EARLIER_SIMILARITY)
            return {"earlier": [one.model_dump() for one in earlier]}

        def route(state: _State, runtime: Runtime[_Listeners]) -> dict[str, Any]:
            found = self.router.route(state["question"])
            if state["pin"] is not None:
                seed = None if state["pin"] == BASE else state["pin"]
                found = found.model_copy(update={"seed": seed, "pinned": True})
            if runtime.context.on_route is not None:
                runtime.context.on_route(found)
            return {"route": found.model_dump()}

        def answer(state: _State, runtime: Runtime[_Listeners]) -> dict[str, Any]:
            earlier = [Remembered.model_validate(one) for one in state["earlier"]]
            spoken = self._speak(state["question"], Route.model_validate(state["route"]), earlier,
                                 state.get("turns", []), runtime.context.on_text)
            return {"answer": spoken.model_dump()}

        def remember(state: _State) -> dict[str, Any]:
            turns = state.get("turns", [])
            self.memory.add_turn(state["thread"], len(turns) // 2, state["question"])
            return {"turns": [
                *turns, {"role": "user", "content": state["question"], "title": ""},
                {"role": "assistant", "content": state["answer"]["text"], "title": state["answer"]["title"]}]}

        graph = StateGraph(_State, context_schema=_Listeners)
        graph.add_node("recall", recall)
        graph.add_node("route", route)
        graph.add_node("answer", answer)
        graph.add_node("remember", remember)
        for source, target in ((START, "recall"), ("recall", "route"), ("route", "answer"), ("answer", "remember"),
                               ("remember", END)):
            graph.add_edge(source, target)
        return graph

    # ── one answer ──────────────────────────────────────────────────────────────────────────────────────────

    def _speak(self, question: str, route: Route, earlier: Sequence[Remembered] = (),
               turns: Sequence[Mapping[str, str]] = (), on_text: Callable[[str], None] | None = None) -> Answer:
        spoken = self.speaker.speak(
            question, route, [Message(turn["role"], turn["content"]) for turn in turns],
            [*self._pages(question, route), *earlier], on_text=on_text)
        seed = spoken.experts[0] if spoken.experts else None
        return Answer(
            text=spoken.text, seed=seed, title=self.title(seed), score=route.score, threshold=route.threshold,
            memories=spoken.memories, tokens=spoken.tokens, seconds=spoken.seconds, finish=spoken.finish, note=spoken.note)

    def _pages(self, question: str, route: Route) -> list[Remembered]:
        """The nearest pages of those who are about to speak; a splice speaks for the seeds of all its parents."""
        if not self.read_memories:
            return []
        count = self.settings.router.memories
        names = [one for name, _ in self.speaker.speakers(route) for one in self.experts[name].seeds]
        found = [page for name in names for page in self.memory.pages(question, name, self.title(name), count)]
        return sorted(found, key=lambda page: -page.similarity)[:count]

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


@contextmanager
def open_ensemble(run: Run, settings: Settings, *, read_memories: bool = True,
                  max_tokens: int = 120) -> Iterator[Ensemble]:
    """Load base, experts, memory and router of a run. Call with the run held.

    A memory that is out of date or damaged is built anew from the corpora.

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
    with Memory(run.memory, embedder) as memory, open_threads(run.conversations) as threads:
        calibration = calibrate(run, settings, memory, seeds)
        router = Router(memory, settings.router, calibration.threshold)
        with open_engine(base, settings.models, sequences=_SEQUENCES) as engine:
            serving.load(engine, settings.ensemble)
            yield Ensemble(run, settings, engine, embedder, memory, router, serving.experts, threads=threads,
                           skipped=serving.skipped, read_memories=read_memories and settings.ensemble.retrieval,
                           max_tokens=max_tokens)
