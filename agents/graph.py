"""The author as a LangGraph graph: several agents on every draft, many drafts at once, every step checkpointed in SQLite.

    dispatch ──Send──▶ draft: proposer, writer, logician, antagonist, questioner, each followed by the critic, who
        ▲                     chooses, asks for fresh samples, calls the next one, or gives up
        └──── librarian ◀─────┘

A killed run goes on where it was: finished drafts are pending writes of the superstep, half-done ones go on from
their own last checkpoint, admitted seeds are in the library and are not written again.
"""

from __future__ import annotations

import operator
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send

from rostok.agents import antagonist, checks, librarian, logician, proposer, questioner, writer
from rostok.agents.draft import Desk, Draft, Field
from rostok.agents.language import Language, language
from rostok.config import AuthorSettings, Settings
from rostok.embedder import Embedder
from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.errors import ModelError, RostokError
from rostok.records import digest
from rostok.seeds.library import Library

_SPEAKS = 0.75          # share of trial texts that must be in the language that was asked for
_FOREIGN_SHARE = 0.1    # of a trial text's letters that may be of another script
ROLES = ("proposer", "writer", "antagonist", "logician", "questioner")


class AuthorError(RostokError):
    """The agents could not fill the library."""


class _AuthorState(TypedDict):
    """`drafts` collects what the parallel branches of one superstep return; `handled` of them were judged."""

    drafts: Annotated[list[Draft], operator.add]
    handled: int
    attempts: dict[str, int]


class _DraftState(TypedDict):
    draft: Draft


def fields(deepen: int = 0) -> tuple[Field, ...]:
    """What a draft consists of, in the order in which it is written; context comes before what is derived from it."""
    return (*proposer.FIELDS, *writer.FIELDS, *antagonist.ATTACK, writer.GLOSSES, *logician.FIELDS, antagonist.CLASHES,
            *questioner.fields(deepen))


def author(desk: Desk, count: int, *, on_seed: Callable[[str, str], None] = lambda place, text: None) -> int:
    """Fill the library up to `count` seeds; what is there already stays. Returns tokens sampled.

    Args:
        on_seed: called with (`admitted` or `quarantined`, title or reason) as the library grows.

    Raises:
        AuthorError: after all attempts fewer than `count` seeds were admitted; the others are kept.
        DataError: the library holds a line that is no seed.
    """
    library = desk.library
    if len(library.seeds()) >= count:
        return 0
    folder = library.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "checkpoints.sqlite", check_same_thread=False)) as connection:
        graph = _build(desk, count, on_seed).compile(checkpointer=SqliteSaver(connection))
        # One thread per task: another count or theme is another task, and its checkpoints must not be mixed up.
        thread = digest(desk.theme, desk.random_seed, count, desk.settings, desk.model_sha256)[:16]
        config: RunnableConfig = {
            "configurable": {"thread_id": thread}, "recursion_limit": 4 * count * desk.settings.attempts + 20,
            "max_concurrency": desk.settings.batch}
        begun = graph.get_state(config)
        fresh: dict[str, Any] = {"drafts": [], "handled": 0, "attempts": {}}
        # A thread that ran to its end and still lacks seeds (the library was cut) begins again.
        final = graph.invoke(None if begun.next else fresh, config)  # type: ignore[arg-type]
    missing = count - len(library.seeds())
    if missing > 0:
        last = library.quarantined()[-1].reason if library.quarantined() else "no reason was kept"
        raise AuthorError(
            f"{missing} of {count} seeds could not be written in {desk.settings.attempts} attempts each; the last reason was: "
            f"{last}. Those admitted are in {library.path}; raise author.attempts, or try another theme or a larger base.")
    return sum(int(draft["tokens"]) for draft in final["drafts"])


def open_desk(library: Library, engine: Engine, embedder: Embedder, settings: Settings, model_sha256: str,
              tongue: Language) -> Desk:
    """What the agents need, for one library.

    Raises:
        ModelError: the model does not write this language; measured on a few sentences.
    """
    desk = Desk(engine, embedder, library, settings.author, settings.theme, settings.random_seed, model_sha256, tongue)
    if tongue.code != "en":
        _check_speaks(desk)
    return desk


def _check_speaks(desk: Desk) -> None:
    """Have the model begin some scenes, and count those that are in the language that was asked for."""
    say, dice = desk.language.say, random.Random(0)
    asked = [say.scene.format(subject=dice.choice(desk.language.subjects), place=example.places.split(", ")[0],
                              person=example.people.split(", ")[0], event=dice.choice(desk.language.events))
             for example in desk.language.examples]
    futures = desk.engine.submit_all([Request((Message("user", text),), Sampling(max_tokens=40), seed=number)
                                      for number, text in enumerate(asked)])
    texts = [future.result().text for future in futures]
    right = [text for text in texts if desk.language.words(text) and not checks.wrong_language(desk.language, text)
             and desk.language.foreign(text) < _FOREIGN_SHARE]
    if len(right) < _SPEAKS * len(texts):
        raise ModelError(f"{desk.engine.name} wrote {len(right)} of {len(texts)} trial texts in {desk.language.name}. Set "
                         "models.base to a model that writes it, for example --set models.base=./qwen2.5-1.5b-instruct.gguf.")


def mermaid() -> str:
    """The graph as a Mermaid diagram. No model is asked."""
    nobody: Any = None
    desk = Desk(nobody, nobody, Library(Path("seeds")), AuthorSettings.model_validate({}), "", 0, "", language("en"))
    return _build(desk, 1, lambda place, text: None).compile().get_graph(xray=True).draw_mermaid()


def _build(desk: Desk, count: int, on_seed: Callable[[str, str], None]) -> StateGraph[_AuthorState]:
    steps = 2 * sum(field.rounds for field in fields(desk.settings.deepen)) + 8
    drafting = _drafting(desk)

    def dispatch(state: _AuthorState) -> dict[str, Any]:
        return {}

    def fan_out(state: _AuthorState) -> list[Send] | str:
        filled = {seed.lineage.place for seed in desk.admitted()}
        tried = {place: state["attempts"].get(str(place), 0) for place in range(count)}
        places = [place for place in range(count) if place not in filled and tried[place] < desk.settings.attempts]
        if not places:
            return END
        return [Send("draft", {"draft": {"place": place, "attempt": tried[place]}}) for place in places[: desk.settings.batch]]

    def draft_one(state: _DraftState) -> dict[str, Any]:
        final = drafting.invoke({"draft": state["draft"]}, {"recursion_limit": steps})
        return {"drafts": [final["draft"]]}

    def judge_all(state: _AuthorState) -> dict[str, Any]:
        attempts = dict(state["attempts"])
        for draft in sorted(state["drafts"][state["handled"]:], key=lambda draft: int(draft["place"])):
            attempts[str(draft["place"])] = int(draft["attempt"]) + 1
            seed, reason = librarian.judge(desk, draft)
            if seed is not None:
                desk.library.admit(seed)
                on_seed("admitted", seed.title)
            else:
                desk.library.quarantine(int(draft["place"]), int(draft["attempt"]), reason, draft)
                on_seed("quarantined", reason)
            desk.library.note_draft(librarian.record(draft, reason))
        return {"attempts": attempts, "handled": len(state["drafts"])}

    graph = StateGraph(_AuthorState)
    graph.add_node("dispatch", dispatch)
    graph.add_node("draft", draft_one, input_schema=_DraftState,
                   retry_policy=RetryPolicy(max_attempts=3, retry_on=ModelError))
    graph.add_node("librarian", judge_all)
    graph.add_edge(START, "dispatch")
    graph.add_conditional_edges("dispatch", fan_out, ["draft", END])
    graph.add_edge("draft", "librarian")
    graph.add_edge("librarian", "dispatch")
    return graph


def _drafting(desk: Desk) -> Any:
    plan = fields(desk.settings.deepen)

    def ask(state: _DraftState) -> dict[str, Draft]:
        """Have the model write candidates for every blank of the current field, all at once."""
        draft = state["draft"]
        if "field" not in draft:
            draft = proposer.propose(desk, int(draft["place"]), int(draft["attempt"]))
        field = plan[draft["field"]]
        blanks = field.blanks(desk, draft)
        futures = iter(desk.engine.submit_all([one for blank in blanks for one in blank.requests(desk, draft, field.name)]))
        candidates, tokens = [], 0
        for blank in blanks:
            done = [next(futures).result() for _ in range(blank.count)]
            candidates.append([blank.start + completion.text for completion in done])
            tokens += sum(completion.tokens for completion in done)
        return {"draft": {**draft, "candidates": candidates, "tokens": draft["tokens"] + tokens}}

    def criticise(state: _DraftState) -> dict[str, Draft]:
        """Check the candidates in code, rank those that pass, keep the best; go on, ask for fresh ones, or give up."""
        draft = state["draft"]
        field, counts = plan[draft["field"]], Counter[str]()
        filled, whole = field.fill(desk, draft, draft["candidates"], counts)
        after = {**filled, "candidates": [], "refused": dict(Counter(draft["refused"]) + counts)}
        if whole or (field.optional and draft["round"] + 1 >= field.rounds):
            return {"draft": {**after, "field": draft["field"] + 1, "round": 0}}
        if draft["round"] + 1 >= field.rounds:
            worst = ", ".join(f"{reason} {number}×" for reason, number in counts.most_common(3)) or "nothing came"
            return {"draft": {**after, "problem": f"{field.name}: no candidate passed ({worst})"}}
        retries = dict(Counter(draft["retries"]) + Counter({field.name: 1}))
        return {"draft": {**after, "round": draft["round"] + 1, "retries": retries}}

    def who_next(state: _DraftState) -> str:
        draft = state["draft"]
        return END if draft["problem"] or draft["field"] == len(plan) else plan[draft["field"]].role

    graph = StateGraph(_DraftState)
    for role in ROLES:
        graph.add_node(role, ask)
        graph.add_edge(role, "critic")
    graph.add_node("critic", criticise)
    graph.add_edge(START, "proposer")
    graph.add_conditional_edges("critic", who_next, [*ROLES, END])
    # No checkpointer of its own: it takes the parent's, in a namespace per task. With checkpointer=True all drafts of a
    # superstep share one namespace, and a resumed one goes on with another's state.
    return graph.compile()
