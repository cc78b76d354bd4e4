"""The author as a LangGraph graph: many drafts at once, every step of every draft checkpointed in SQLite.

    dispatch ──Send──▶ draft: propose ─▶ write ⇄ criticise ─▶ (finished or given up)
        ▲                                                        │
        └───────────────── admit (librarian) ◀───────────────────┘

A killed run goes on where it was: finished drafts are pending writes of the superstep, half-done ones go on from
their own last checkpoint, admitted seeds are in the library and are not written again.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, Send
from pydantic import ValidationError

from rostok.agents.team import FIELDS, ROUNDS, AuthorError, Draft, Team
from rostok.records import digest, problems
from rostok.seeds.library import Library

_STEPS_OF_A_DRAFT = 2 * ROUNDS * len(FIELDS) + 8


class _AuthorState(TypedDict):
    """`drafts` collects what the parallel branches of one superstep return; `admitted_upto` forgets the older ones."""

    drafts: Annotated[list[Draft], operator.add]
    handled: int
    attempts: dict[str, int]


class _DraftState(TypedDict):
    draft: Draft


def author(folder: Path, team: Team, count: int, *, on_seed: Callable[[str, str], None] = lambda place, text: None) -> int:
    """Fill the library in `folder` up to `count` seeds; what is there already stays. Returns tokens sampled.

    Args:
        on_seed: called with (`admitted` or `quarantined`, title or reason) as the library grows.

    Raises:
        AuthorError: after all attempts fewer than `count` seeds were admitted; the others are kept.
        DataError: the library holds a line that is no seed.
    """
    library = Library(folder)
    if len(library.seeds()) >= count:
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "checkpoints.sqlite", check_same_thread=False)) as connection:
        graph = _build(team, library, count, on_seed).compile(checkpointer=SqliteSaver(connection))
        # One thread per task: another count or theme is another task, and its checkpoints must not be mixed up.
        thread = digest(team.theme, team.random_seed, count, team.settings, team.model_sha256)[:16]
        config: RunnableConfig = {
            "configurable": {"thread_id": thread}, "recursion_limit": 4 * count * team.settings.attempts + 20,
            "max_concurrency": team.settings.batch}
        begun = graph.get_state(config)
        fresh: dict[str, Any] = {"drafts": [], "handled": 0, "attempts": {}}
        # A thread that ran to its end and still lacks seeds (the library was cut) begins again.
        final = graph.invoke(None if begun.next else fresh, config)  # type: ignore[arg-type]
    missing = count - len(library.seeds())
    if missing > 0:
        last = library.quarantined()[-1].reason if library.quarantined() else "no reason was kept"
        raise AuthorError(
            f"{missing} of {count} seeds could not be written in {team.settings.attempts} attempts each; the last reason was: "
            f"{last}. Those admitted are in {library.path}; raise author.attempts, or try another theme or a larger base.")
    return sum(int(draft["tokens"]) for draft in final["drafts"])


def mermaid(team: Team, folder: Path) -> str:
    """The graph as a Mermaid diagram."""
    graph = _build(team, Library(folder), 1, lambda place, text: None).compile()
    return graph.get_graph(xray=True).draw_mermaid()


def _build(team: Team, library: Library, count: int, on_seed: Callable[[str, str], None]) -> StateGraph[_AuthorState]:
    drafting = _drafting(team)

    def places_left(state: _AuthorState) -> list[int]:
        filled = {seed.lineage.place for seed in library.seeds()}
        return [place for place in range(count)
                if place not in filled and state["attempts"].get(str(place), 0) < team.settings.attempts]

    def dispatch(state: _AuthorState) -> dict[str, Any]:
        return {}

    def fan_out(state: _AuthorState) -> list[Send] | str:
        places = places_left(state)[: team.settings.batch]
        if not places:
            return END
        return [Send("draft", {"draft": {"place": place, "attempt": state["attempts"].get(str(place), 0)}}) for place in places]

    def draft_one(state: _DraftState) -> dict[str, Any]:
        final = drafting.invoke({"draft": state["draft"]}, {"recursion_limit": _STEPS_OF_A_DRAFT})
        return {"drafts": [final["draft"]]}

    def admit(state: _AuthorState) -> dict[str, Any]:
        attempts = dict(state["attempts"])
        fresh = sorted(state["drafts"][state["handled"]:], key=lambda draft: int(draft["place"]))
        for draft in fresh:
            attempts[str(draft["place"])] = int(draft["attempt"]) + 1
            reason = str(draft["problem"])
            if not reason:
                try:
                    seed = team.finish(draft)
                    reason = team.too_near(seed, [old for old in library.seeds() if old.lineage.place != draft["place"]]) or ""
                    if not reason:
                        library.admit(seed)
                        on_seed("admitted", seed.title)
                except ValidationError as error:
                    reason = problems(error)
            if reason:
                library.quarantine(int(draft["place"]), int(draft["attempt"]), reason, draft)
                on_seed("quarantined", reason)
        return {"attempts": attempts, "handled": len(state["drafts"])}

    graph = StateGraph(_AuthorState)
    graph.add_node("dispatch", dispatch)
    graph.add_node("draft", draft_one, input_schema=_DraftState, retry_policy=RetryPolicy(max_attempts=2))
    graph.add_node("admit", admit)
    graph.add_edge(START, "dispatch")
    graph.add_conditional_edges("dispatch", fan_out, ["draft", END])
    graph.add_edge("draft", "admit")
    graph.add_edge("admit", "dispatch")
    return graph


def _drafting(team: Team) -> Any:
    def propose(state: _DraftState) -> dict[str, Draft]:
        return {"draft": team.propose(int(state["draft"]["place"]), int(state["draft"]["attempt"]))}

    def write(state: _DraftState) -> dict[str, Draft]:
        return {"draft": team.write(state["draft"])}

    def criticise(state: _DraftState) -> dict[str, Draft]:
        return {"draft": team.criticise(state["draft"])}

    def next_step(state: _DraftState) -> str:
        return END if state["draft"]["problem"] or state["draft"]["field"] == len(FIELDS) else "write"

    graph = StateGraph(_DraftState)
    graph.add_node("propose", propose)
    graph.add_node("write", write)
    graph.add_node("criticise", criticise)
    graph.add_edge(START, "propose")
    graph.add_edge("propose", "write")
    graph.add_edge("write", "criticise")
    graph.add_conditional_edges("criticise", next_step, ["write", END])
    # No checkpointer of its own: it takes the parent's, in a namespace per task. With checkpointer=True all drafts of a
    # superstep share one namespace, and a resumed one goes on with another's state.
    return graph.compile()
