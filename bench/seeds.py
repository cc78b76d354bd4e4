"""Three ways to have the same model write thought seeds, at the same number of sampled tokens, in one run.

    make bench-seeds

(a) the agents of `rostok seeds author`; (b) one prompt that asks for the whole seed as JSON under a schema; (c) samplers and
columns as Data Designer has them: attributes and the order of the nodes are drawn by code, every field is a column of its own
under a schema, up to three fresh conversations each. All answers go through the same record and the same checks of their
texts. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

from pydantic import ValidationError  # noqa: E402

from rostok import __version__  # noqa: E402
from rostok.agents import checks  # noqa: E402
from rostok.agents.graph import AuthorError, author, open_desk  # noqa: E402
from rostok.agents.language import Language, language  # noqa: E402
from rostok.config import resolve  # noqa: E402
from rostok.embedder import Embedder  # noqa: E402
from rostok.engines.open import open_engine  # noqa: E402
from rostok.engines.protocol import Engine, Message, Request, Sampling  # noqa: E402
from rostok.machine import processor, usable_cores  # noqa: E402
from rostok.models import find_base, find_embedder  # noqa: E402
from rostok.records import stable_seed  # noqa: E402
from rostok.seeds.library import Library  # noqa: E402
from rostok.seeds.lint import placeholders  # noqa: E402
from rostok.seeds.measures import measure  # noqa: E402
from rostok.seeds.record import REGISTERS, Contradiction, Lineage, Node, Seed, Transition  # noqa: E402

NODES, WAVE, RESTARTS = 12, 16, 3
KEYS = [f"n{number:02d}" for number in range(1, NODES + 1)]


def text(most: int, least: int = 3) -> dict[str, Any]:
    """A string of the schema, as long as the record wants it."""
    return {"type": "string", "minLength": least, "maxLength": most}


def record(**properties: Any) -> dict[str, Any]:
    """An object of the schema; every field must be there."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def items(of: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    """A list of the schema."""
    return {"type": "array", "items": of, "minItems": least, "maxItems": most}


KEY = {"enum": KEYS}
NODE = record(name=text(30), gloss=text(160, 20))
CLASH = record(a=KEY, b=KEY, sentence=text(160, 20))
WHOLE = record(title=text(60), scene=text(500, 120), nodes=items(NODE, NODES, NODES),
               transitions=items(record(source=KEY, operation=text(20), target=KEY, sentence=text(160, 20)), NODES, NODES + 4),
               contradictions=items(CLASH, 1, 2))


@dataclass
class Tally:
    """What one way of writing gave, and what it cost."""

    seeds: list[Seed] = field(default_factory=list)
    asked: int = 0
    sound: int = 0
    tokens: int = 0
    seconds: float = 0.0
    why: Counter[str] = field(default_factory=Counter)

    def take(self, make: Callable[[], Seed], tongue: Language) -> None:
        """Count one answer, and keep the seed when record and texts are in order."""
        self.asked += 1
        try:
            seed = make()
        except ValidationError as error:
            self.why[error.errors()[0]["msg"].removeprefix("Value error, ").split(":")[0][:60]] += 1
            return
        except (json.JSONDecodeError, KeyError, TypeError):
            self.why["no whole JSON"] += 1
            return
        self.sound += 1
        reason = flaw(seed, tongue)
        if reason:
            self.why[reason] += 1
        else:
            self.seeds.append(seed)

    def figures(self, embedder: Embedder) -> dict[str, Any]:
        """The keys of one method."""
        found = measure(self.seeds, embedder, exemplars=language("en").exemplars())
        return {"asked": self.asked, "sound": self.sound, "valid": len(self.seeds), "distinct": found.distinct,
                "vendi": found.vendi, "seconds": round(self.seconds, 1), "tokens": self.tokens,
                "duplicate_nodes": found.duplicate_nodes, "why_not": dict(self.why.most_common(4))}


def flaw(seed: Seed, tongue: Language) -> str | None:
    """What is wrong with the texts of a seed that the record accepts; the same for all ways."""
    if placeholders(seed):
        return "placeholder"
    problem = checks.scene_problem(tongue, seed.scene, prompt="")
    if problem:
        return f"scene: {problem}"
    said = {"gloss": seed.nodes, "step": seed.transitions, "clash": seed.contradictions}
    for what, parts in said.items():
        sentences = [part.gloss if isinstance(part, Node) else part.sentence for part in parts]  # type: ignore[attr-defined]
        for sentence in sentences:
            problem = checks.sentence_problem(tongue, sentence, start="", prompt="", shortest=3)
            if problem:
                return f"{what}: {problem}"
        if len(set(sentences)) < len(sentences):
            return f"{what}: stands twice"
    return None


def agents(engine: Engine, embedder: Embedder, theme: str, count: int, tongue: Language) -> Tally:
    """(a) The agents, as `rostok seeds author` runs them."""
    tally, settings = Tally(), resolve(options={"theme": theme, "author": {"count": count, "nodes": NODES}})
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        library = Library(Path(folder))
        desk = open_desk(library, engine, embedder, settings, find_base("embedded").sha256, tongue)
        try:
            author(desk, count)
        except AuthorError as error:
            print(error)
        tally.seconds = time.perf_counter() - started
        tally.tokens = sum(draft.tokens for draft in library.drafts())
        for seed in library.seeds():
            tally.take(lambda seed=seed: seed, tongue)  # type: ignore[misc]
        tally.asked = count
    return tally


def _ask(engine: Engine, prompts: list[str], schema: dict[str, Any] | None, most: int, dice: int) -> tuple[list[str], int]:
    futures = engine.submit_all([
        Request((Message("user", prompt),), Sampling(max_tokens=most, temperature=0.8, min_p=0.08), schema=schema,
                seed=stable_seed(dice, number, prompt)) for number, prompt in enumerate(prompts)])
    done = [future.result() for future in futures]
    return [one.text for one in done], sum(one.tokens for one in done)


def whole(engine: Engine, theme: str, budget: int, tongue: Language) -> Tally:
    """(b) One prompt, one object."""
    tally = Tally()
    started = time.perf_counter()
    prompt = (f"Theme: {theme}.\nWrite a thought seed as JSON: a title; a scene of three sentences; {NODES} nodes, each with a "
              f"name of two words and a gloss of one sentence, called {KEYS[0]} to {KEYS[-1]} in their order; {NODES} "
              "or more transitions from node to node (source, operation as one verb, target, a sentence that tells it), so that "
              "every node leads on and one can come back to where one was; one or two contradictions, each with a sentence.")
    while tally.tokens < budget:
        answers, tokens = _ask(engine, [prompt] * WAVE, WHOLE, 2400, tally.asked)
        tally.tokens += tokens
        for answer in answers:
            tally.take(lambda answer=answer: seed_of(json.loads(answer), theme, tally.asked), tongue)  # type: ignore[misc]
        tally.seconds = time.perf_counter() - started
    return tally


def columns(engine: Engine, theme: str, budget: int, tongue: Language) -> Tally:
    """(c) Samplers, then one column after the other, all rows of a wave side by side."""
    tally = Tally()
    started = time.perf_counter()
    while tally.tokens < budget:
        rows = [_sampled(tongue, theme, tally.asked + number) for number in range(WAVE)]
        for name, prompt, schema, most in _plan():
            todo = list(rows)
            for restart in range(RESTARTS):
                dice = stable_seed(name, restart, tally.asked)
                answers, tokens = _ask(engine, [prompt(row) for row in todo], schema, most, dice)
                tally.tokens += tokens
                for row, answer in zip(todo, answers, strict=True):
                    try:
                        row[name] = json.loads(answer)[name] if schema else answer.strip()
                    except (json.JSONDecodeError, KeyError, TypeError):
                        continue
                todo = [row for row in todo if name not in row]
                if not todo:
                    break
            rows, lost = [row for row in rows if name in row], [row for row in rows if name not in row]
            tally.asked += len(lost)
            tally.why[f"{name}: no whole JSON"] += len(lost)
        for row in rows:
            for step, (source, target) in zip(row["transitions"], row["pairs"], strict=False):
                step.update(source=source, target=target)
            tally.take(lambda row=row: seed_of(row, theme, tally.asked), tongue)  # type: ignore[misc]
        tally.seconds = time.perf_counter() - started
    return tally


def _sampled(tongue: Language, theme: str, number: int) -> dict[str, Any]:
    dice = random.Random(number)
    order = dice.sample(KEYS, NODES)
    return {"theme": theme, "subject": tongue.subjects[number % len(tongue.subjects)], "event": dice.choice(tongue.events),
            "mood": dice.choice(tongue.moods), "pairs": list(zip(order, [*order[1:], order[0]], strict=True))}


def _plan() -> Iterator[tuple[str, Callable[[dict[str, Any]], str], dict[str, Any] | None, int]]:
    about = "Theme: {theme}. Subject: {subject}. Mood: {mood}."
    yield "title", lambda row: f"{about.format(**row)} Write a title of two to six words.", record(title=text(60)), 40
    yield ("scene", lambda row: f"{about.format(**row)} Write a scene of three plain, concrete sentences called {row['title']}, "
           f"in which somebody {row['event']}. Answer with the scene alone.", None, 130)
    yield ("nodes", lambda row: f"{about.format(**row)}\n{row['scene']}\nName {NODES} different things of this scene, each with "
           "a name of two words and a gloss of one sentence.", record(nodes=items(NODE, NODES, NODES)), 1100)
    yield ("transitions", lambda row: "For each pair, say in one verb what the first does to the second, and tell it in one "
           "sentence.\n" + "\n".join(f"{_named(row, a)} -> {_named(row, b)}" for a, b in row["pairs"]),
           record(transitions=items(record(operation=text(20), sentence=text(160, 20)), NODES, NODES)), 1100)
    yield ("contradictions", lambda row: "\n".join(f"{key}: {_named(row, key)}" for key in KEYS) + "\nName one or two pairs of "
           "these things that stand against each other, each with a sentence that says why.",
           record(contradictions=items(CLASH, 1, 2)), 200)


def _named(row: dict[str, Any], key: str) -> str:
    return str(row["nodes"][KEYS.index(key)]["name"])


def seed_of(raw: dict[str, Any], theme: str, place: int) -> Seed:
    """A seed of what the model said. Raises pydantic's `ValidationError` where the record refuses it."""
    return Seed(
        title=raw["title"], language="en", scene=raw["scene"],
        nodes=tuple(Node(key=key, name=node["name"], gloss=node["gloss"]) for key, node in zip(KEYS, raw["nodes"], strict=False)),
        transitions=tuple(Transition(source=step["source"], operation=step["operation"], target=step["target"], tension=0.5,
                                     sentence=step["sentence"]) for step in raw["transitions"]),
        contradictions=tuple(Contradiction(a=clash["a"], b=clash["b"], sentence=clash["sentence"])
                             for clash in raw["contradictions"]),
        registers=tuple(REGISTERS[:5]), scores={},
        lineage=Lineage(theme=theme, place=place, random_seed=0, model="0" * 64, rostok=__version__))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=16, help="seeds that the agents write; the others get as many tokens")
    parser.add_argument("--theme", default="a harbour town and the sea that feeds it")
    asked = parser.parse_args()
    embedder, tongue = Embedder(find_embedder("embedded")), language("en")
    models = resolve(assignments=["models.context=3072", "models.sequences=16"]).models
    tallies: dict[str, Tally] = {}
    with open_engine(find_base("embedded"), resolve().models) as engine:
        tallies["agents"] = agents(engine, embedder, asked.theme, asked.count, tongue)
    budget = tallies["agents"].tokens
    with open_engine(find_base("embedded"), models) as engine:
        tallies["whole_json"] = whole(engine, asked.theme, budget, tongue)
        tallies["columns"] = columns(engine, asked.theme, budget, tongue)
    figures: dict[str, Any] = {name: tally.figures(embedder) for name, tally in tallies.items()}
    print(f"{'':14}{'asked':>7}{'sound':>7}{'valid':>7}{'distinct':>10}{'vendi':>8}{'seconds':>9}{'tokens':>9}")
    for name, row in figures.items():
        print(f"{name:14}{row['asked']:>7}{row['sound']:>7}{row['valid']:>7}{row['distinct'] or 0:>10.2f}"
              f"{row['vendi'] or 0:>8.1f}{row['seconds']:>9}{row['tokens']:>9}   {row['why_not'] or ''}")
    print(json.dumps({**figures, "cores": usable_cores(), "processor": processor()}))


if __name__ == "__main__":
    main()
