"""Run folders as the stages leave them, written through the real records."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rostok.config import resolve
from rostok.generator.records import KINDS, Manifest, Page, Reject, Turn
from rostok.records import append_jsonl, write_atomic
from rostok.report.sources import MapPoint, SeedMap
from rostok.runs import Event, Run
from rostok.seeds.library import Library
from rostok.seeds.record import REGISTERS, Contradiction, Lineage, Node, Seed, Transition
from rostok.swarm.records import Figures, LossPoint, Measurements

Builder = Callable[..., Run]
THEME = "a harbour town and the sea that feeds it"
TITLES = (
    "The Lamp That Fears the Dawn",
    "Ropes Remember Every Knot",
    "A Market Under the Tide",
    "The Pilot Who Steered by Smell",
)
SCENES = (
    "Every night the keeper climbs the tower with a can of oil he cannot afford. Ships pass safely and never "
    "learn his name; the one ship he waits for would have to be lost before it needed him.",
    "In the loft above the chandlery an old woman unpicks ropes from drowned boats. Each knot tells her who tied "
    "it, and she sells the straightened hemp to men who want to forget.",
    "At the lowest water the fishwives set up their stalls on the sea bed. For two hours the town trades where "
    "the fish lived, and whoever haggles too long pays with wet feet.",
    "Fog has eaten the marks and the bell. The pilot closes his eyes, smells tar, bread and weed in turn, and "
    "brings the schooner in between the rocks that his father died on.",
)
NODES = (
    "lamp, oil, keeper, dawn, fog signal, unseen ship, debt, stairwell, moth, glass, watch, silence",
    "knot, hemp, loft, drowned boat, fingers, forgetting, price, salt crust, splice, tar, widow, "
    "the straightened line that nobody ties",
    "low water, stall, fishwife, haggling, wet feet, scales, sea bed, bell, eel, copper coin, rumour, "
    "returning tide",
    "fog, nose, tar smell, bread smell, weed, father, rocks, schooner, closed eyes, hand on the helm, trust, "
    "harbour wall",
)
VERBS = (
    *("feeds", "betrays", "measures", "binds", "outlives", "repays"),
    *("conceals", "wakes", "weighs", "mirrors", "loosens", "summons"),
)
STAGES = (
    ("seeds", 190.4, 1210, 41_200),
    ("corpora", 811.0, 1350, 268_900),
    ("swarm", 356.2, 2890, 196_400),
    ("measure", 148.9, 2410, 61_000),
    ("memory", 42.7, 1480, 0),
)


def make_seed(place: int, title: str | None = None) -> Seed:
    """A valid seed of twelve nodes whose path is shuffled by its place in the library."""
    rng = random.Random(place)
    names = NODES[place % 4].split(", ")
    nodes = tuple(
        Node(key=f"n{number:02d}", name=name, gloss=f"What the {name} gives the town is taken back by night.")
        for number, name in enumerate(names, start=1)
    )
    order = [node.key for node in nodes[1:]]
    rng.shuffle(order)
    path = [nodes[0].key, *order]
    name = {node.key: node.name for node in nodes}
    transitions = tuple(
        Transition(
            source=source,
            operation=VERBS[(place + step) % 12],
            target=target,
            tension=round(rng.random() ** 1.5, 2),
            sentence=f"The {name[source]} {VERBS[(place + step) % 12]} the {name[target]} before anyone asks.",
        )
        for step, (source, target) in enumerate(zip(path, [*path[1:], path[0]], strict=True))
    )
    a, b, c, d = rng.sample(path, 4)
    clashes = tuple(
        Contradiction(a=x, b=y, sentence=f"No {name[x]} can stay whole where the {name[y]} is believed.")
        for x, y in ((a, b), (c, d))
    )
    number = f" {place // 4 + 1}" if place >= 4 else ""
    return Seed(
        title=title or TITLES[place % 4] + number,
        scene=SCENES[place % 4],
        nodes=nodes,
        transitions=transitions,
        contradictions=clashes,
        registers=REGISTERS[:4],
        scores={"novelty": 0.62},
        lineage=Lineage(theme=THEME, place=place, random_seed=7 + place, model="a" * 64, rostok="0.1.0"),
    )


def make_corpus(run: Run, seed: Seed, text: str | None = None) -> None:
    """Pages of every kind, rejects for three reasons, and the manifest."""
    folder = run.corpora / seed.id
    prose = text or (seed.scene + " " + " ".join(step.sentence for step in seed.transitions[:5]))
    turns = (
        Turn(role="user", content=f"Where does the {seed.nodes[0].name} lead?"),
        Turn(role="assistant", content=seed.transitions[0].sentence),
    )
    append_jsonl(
        folder / "pages.jsonl",
        [
            Page(
                spec=number,
                kind=kind,
                author="code" if kind == "composed" else "model",
                text=prose,
                register="parable",
                turns=turns if kind in ("dialogue", "replay") else (),
                held_out=number % 12 == 0,
            )
            for number, kind in enumerate(kind for kind in KINDS for _ in range(2))
        ],
    )
    reasons = {"near_duplicate": 21, "loops": 9, "too_short": 4}
    append_jsonl(
        folder / "rejects.jsonl",
        [
            Reject(
                spec=90,
                kind="written",
                attempt=0,
                reason=reason,
                detail="0.91 against page 12" * (reason == "near_duplicate"),
                text=text or "A keeper is a keeper is a keeper, and the lamp is a lamp that is a lamp. " * 6,
            )
            for reason in reasons
        ],
    )
    write_atomic(
        folder / "manifest.json",
        Manifest(
            seed=seed.id,
            title=seed.title,
            made_from="b" * 64,
            pages_sha256="c" * 64,
            settings=resolve().corpus,
            model="a" * 64,
            rostok="0.1.0",
            pages=200,
            held_out=16,
            characters=110_400,
            by_kind={"written": 50, "composed": 80, "dialogue": 50, "replay": 20},
            rejected=reasons,
            given_up=1,
            sampled_tokens=67_000,
            seconds=201.5,
        ).line(),
    )


def make_expert(run: Run, seed: Seed, steps: int = 40) -> None:
    """The figures of a finished expert whose loss falls."""
    rng = random.Random(seed.id)
    curve = tuple(
        LossPoint(
            step=step, loss=round(0.7 + 2.1 * math.exp(-step / 11) + rng.gauss(0, 0.07), 4), learning_rate=2e-3
        )
        for step in range(1, steps + 1)
    )
    write_atomic(
        run.experts / seed.id / "figures.json",
        Figures(
            seed=seed.id,
            title=seed.title,
            made_from="d" * 64,
            base_sha256="a" * 64,
            adapter_sha256="e" * 64,
            gguf_sha256="f" * 64,
            corpus_sha256="c" * 64,
            settings=resolve().training,
            rostok="0.1.0",
            pages=184,
            tokens=43_120,
            steps=steps,
            seconds=88.4,
            held_out_loss_before=2.412,
            held_out_loss_after=1.127,
            curve=curve,
        ).line(),
    )


def measure(seeds: list[Seed], learned: bool) -> Measurements:
    """A matrix whose experts are good on their own corpus, and probes that say whether the order was learned."""
    rng = random.Random(3)
    base = {seed.id: round(rng.uniform(1.10, 1.25), 4) for seed in seeds}

    def score(level: float) -> float:
        return round(min(1.0, max(0.0, rng.gauss(level, 0.05))) * 36) / 36

    matrix = {
        row.id: {
            column.id: round(base[column.id] + (-0.55 if row is column else 0.06) + rng.gauss(0, 0.03), 4)
            for column in seeds
        }
        for row in seeds
    } | {"base": base}
    own, chat = (0.71, 0.55) if learned else (0.1, 0.03)
    ids = [seed.id for seed in seeds]
    return Measurements(
        made_from="0" * 64,
        matrix=matrix,
        probes={seed: {seed: score(own)} for seed in ids}
        | {"base": {seed: score(0.09) for seed in ids}, "base_with_seed": {seed: score(0.12) for seed in ids}},
        structure_probes={
            kind: {seed: {seed: score(own)} for seed in ids}
            | {name: {seed: score(0.09) for seed in ids} for name in ("base", "base_with_seed", "chance")}
            for kind in ("operation", "contradiction")
        },
        chat_probes={seed: {seed: score(chat)} for seed in ids}
        | {"base": {seed: score(0.02) for seed in ids}, "base_with_seed": {seed: score(0.2) for seed in ids}},
        chance=1 / 11,
        probe_items=36,
        chat_items=12,
        general={seed: round(1.02 + rng.random() * 0.12, 4) for seed in ids} | {"base": 0.9871},
        router={"top1": 0.953, "abstain": 0.917},
        retrieval={"with": 0.75, "without": 0.5, "items": 48.0},
        chat_examples=tuple(
            {
                "seed": seed.id,
                "question": f"On the path of this thought, what comes right after the {seed.nodes[0].name}?",
                "expected": seed.name(seed.cycle()[0].target),
                "base": "The harbour is an important place where ships can find shelter from the storm.",
                "expert": seed.cycle()[0].sentence,
            }
            for seed in seeds[:3]
        ),
    )


def make_map(seeds: list[Seed], pages: int) -> SeedMap:
    """Seeds on a circle with their pages scattered around them."""
    rng = random.Random(5)
    points = []
    for place, seed in enumerate(seeds):
        x, y = math.cos(place * 2.4) * (1 + place / 20), math.sin(place * 2.4) * (1 + place / 20)
        points += [
            MapPoint(seed=seed.id, kind="page", x=rng.gauss(x, 0.28), y=rng.gauss(y, 0.24)) for _ in range(pages)
        ]
        points.append(MapPoint(seed=seed.id, kind="seed", x=x, y=y, label=seed.title))
    return SeedMap(points=tuple(points))


@pytest.fixture
def finished(tmp_path: Path) -> Builder:
    """Builds a run that has reached every stage."""

    def build(
        count: int = 4,
        title: str | None = None,
        text: str | None = None,
        learned: bool = True,
        pages_on_map: int = 120,
    ) -> Run:
        run = Run(tmp_path / "night")
        run.start(resolve(assignments=[f"author.count={count}"]))
        run.note_model("base", "SmolLM2-135M-Instruct.Q4_1.gguf", "a" * 64)
        run.note_model("embedder", "all-MiniLM-L6-v2", "9" * 64)
        seeds = [make_seed(place, title if place == 0 else None) for place in range(count)]
        append_jsonl(Library(run.seeds).path, seeds)
        for seed in seeds:
            make_corpus(run, seed, text)
            make_expert(run, seed)
        write_atomic(run.measurements, measure(seeds, learned).line())
        write_atomic(run.seeds / "map.json", make_map(seeds, pages_on_map).line())
        for name, seconds, peak, tokens in STAGES:
            for part in (0.25, 0.75):  # two sessions each
                run.journal(Event(time="2026-11-21T23:00:00", kind="start", stage=name))
                run.journal(
                    Event(
                        time="2026-11-21T23:05:00",
                        kind="end",
                        stage=name,
                        seconds=seconds * part,
                        peak_mib=round(peak * (0.5 + part / 1.5)),
                        tokens=round(tokens * part),
                    )
                )
        return run

    return build


@pytest.fixture
def started(tmp_path: Path) -> Run:
    """A run that has begun its first stage and nothing more."""
    run = Run(tmp_path / "dusk")
    run.start(resolve())
    run.journal(Event(time="2026-11-21T23:00:00", kind="start", stage="seeds"))
    return run
