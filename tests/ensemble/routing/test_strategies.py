"""The ways to weigh the seeds, each by itself, and what they keep of a run."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from rostok.config import Settings, StrategyName
from rostok.ensemble.recall.memory import Memory, Neighbour
from rostok.ensemble.routing import arrow, kept, tfidf
from rostok.ensemble.routing.evidence import KINDS, Evidence, Sight
from rostok.ensemble.routing.keyword import Keyword
from rostok.ensemble.routing.nearest import votes
from rostok.ensemble.routing.router import Question
from rostok.ensemble.routing.strategies import Material, nobodys, open_strategy
from rostok.ensemble.routing.terms import sentences, terms
from rostok.errors import RunError
from rostok.generator import wordings
from rostok.generator.general import HELD_OUT
from rostok.records import append_jsonl, file_digest, read_jsonl
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm import lowrank, probes
from rostok.swarm.adapters import read_adapter, write_adapter
from rostok.swarm.records import Expert


@pytest.fixture
def material(ready: Run, settings: Settings, seeds: list[Seed], memory: Memory) -> Material:
    return Material(ready, settings, memory, seeds)


@pytest.mark.parametrize("name", ["evidence", "nearest", "classifier", "tfidf", "keyword"])
def test_each_finds_whose_node_is_named(material: Material, seeds: list[Seed], name: StrategyName) -> None:
    """A strategy that weighs, but another seed; negative weights, which no mixing could add up to 1."""
    strategy = open_strategy(name, material)
    for place, text in enumerate(("the nectar ledger, the smoker", "the winding key and the dial", "the flour sack, the crust")):
        question = material.read([text])[0]
        found = strategy.scores(question)
        assert max(found, key=lambda seed: found[seed]) == seeds[place].id, text
        assert min(found.values()) >= 0 and strategy.confidence(question, dict(sorted(found.items(), key=lambda i: -i[1]))) > 0


def test_random_is_the_same_for_the_same_question(material: Material) -> None:
    """A baseline that cannot be measured twice."""
    one, two = (open_strategy("random", material) for _ in range(2))
    a, b = material.read(["a tide", "a lamp"])
    assert one.scores(a) == two.scores(a) != one.scores(b) and len(one.scores(a)) == 3


def test_keyword_counts_shares_of_names(seeds: list[Seed], memory: Memory) -> None:
    """Two nodes that are named are two; a seed that shares nothing has no weight."""
    keyword = Keyword(seeds)
    assert keyword.scores(Question("the winding keys and the dial", (), memory)) == {seeds[1].id: 2.0}
    assert keyword.scores(Question("nothing of it", (), memory)) == {}


def _near(seed: str, similarity: float) -> Neighbour:
    return Neighbour(id=f"{seed}:{similarity}", seed=seed, kind="page", similarity=similarity, label="")


def test_only_the_nucleus_votes() -> None:
    """Sixteen far texts of one seed that outvote the one that is meant."""
    near = [_near("a", 0.9), *(_near("b", 0.78 - 0.001 * number) for number in range(15))]
    assert max(votes(near, 0.05, 1.0).items(), key=lambda item: item[1])[0] == "b"
    assert votes(near, 0.05, 0.5) == {"a": pytest.approx(0.848, abs=1e-3), "b": pytest.approx(0.152, abs=1e-3)}
    assert votes(near, 0.05, 0.1) == {"a": 1.0} and votes((), 0.05, 0.9) == {}
    for nucleus in (0.1, 0.5, 0.9, 1.0):
        assert sum(votes(near, 0.05, nucleus).values()) == pytest.approx(1)


def test_evidence_tells_phrase_from_scattered_words(material: Material, seeds: list[Seed]) -> None:
    """`The gear is brass` counted as if the brass gear were named; a plural or a hyphen that hides a name."""
    sight = Sight(seeds, material.tfidf, 0.05, 0.9)
    phrase, scattered = KINDS.index("phrase"), KINDS.index("scattered")
    for text, column in (("a BRASS GEARS shop", phrase), ("brass-gear", phrase), ("a gear made of brass", scattered)):
        found = sight.of(Question(text, (), material.memory))
        assert found[1, column] == pytest.approx(np.log(2)) and found[:, [phrase, scattered]].sum() == found[1, column]
    partly = sight.of(Question("the gear", (), material.memory))[:, KINDS.index("partly")]
    assert partly.tolist() == [0, pytest.approx(0.5), 0]
    assert not sight.of(Question("", (), material.memory)).any()


def test_evidence_weighs_by_what_it_has_learned(material: Material, seeds: list[Seed]) -> None:
    """Probabilities that add up to more than 1, or weights that are not looked at."""
    parts = (seeds, material.tfidf, 0.05, 0.9)
    question = material.read(["Where is the winding key?"])[0]
    learned = open_strategy("evidence", material)
    found = learned.scores(question)
    assert 0.8 < found[seeds[1].id] <= sum(found.values()) <= 1 + 1e-9
    deaf = Evidence(*parts, {**dict.fromkeys(KINDS, 0.0), "nobody": 0.0})
    assert deaf.scores(question) == {seed.id: pytest.approx(0.25) for seed in seeds}
    assert deaf.confidence(question, deaf.scores(question)) == pytest.approx(0.75)


def test_tfidf_is_a_cosine(material: Material) -> None:
    """Documents or questions of another length than 1 would make long ones win."""
    texts = {"a": ["the red fox and the red fox", "the hen"], "b": ["the hen sat, the hen sat"]}
    made = tfidf.Tfidf(tfidf.fit(texts))
    assert made.cosines("the hen sat the hen sat")[1] == pytest.approx(1.0, abs=0.02)
    assert made.cosines("red fox")[1] == 0 < made.cosines("red fox")[0] <= 1 and not made.cosines("unseen").any()


def test_terms_and_sentences() -> None:
    """Plurals that miss their name; `glass` cut to `glas`; fragments as sentences."""
    assert terms("Tin plates, glass") == ["tin", "plate", "glass", "tin plate", "plate glass"]
    assert sentences(["One two three. No.\n\nFour five six"]) == ["One two three.", "Four five six"]


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────


def test_learned_files_fit_or_are_learned_anew(tmp_path: Path) -> None:
    """Arrays of an older corpus that go on routing; a damaged file that ends the chat."""
    path, made = tmp_path / "deep" / "x.npz", []

    def make() -> kept.Arrays:
        made.append(1)
        return {"a": np.arange(3), "words": kept.joined(["é", "", "x"])}

    for made_from in ("1", "1", "2", "2"):
        found = kept.arrays(path, made_from, make)
        assert found["a"].tolist() == [0, 1, 2] and kept.split(found["words"]) == ["é", "", "x"]
    assert len(made) == 2 and kept.split(kept.joined([])) == []
    for damage in (path.read_bytes()[:60], b"", b"PK not a zip", b"x" * 500):
        path.write_bytes(damage)
        kept.arrays(path, "2", make)
    assert len(made) == 6
    numbers = tmp_path / "n.json"
    assert [kept.numbers(numbers, "1", lambda: {"w": 1.5})["w"] for _ in range(2)] == [1.5, 1.5]
    assert kept.numbers(numbers, "2", lambda: {"w": 2.5}) == {"w": 2.5}
    numbers.write_text("[]")
    assert kept.numbers(numbers, "2", lambda: {"w": 3.5}) == {"w": 3.5}


class Bomb:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import rostok; rostok.exploded = True",)


def test_no_file_of_a_run_runs_code(tmp_path: Path) -> None:
    """A run that somebody sent, with a pickle in it (GHSA of every model hub)."""
    import rostok

    path = tmp_path / "x.npz"
    for write in (lambda: np.savez(path, made_from=np.array("1"), a=np.array([Bomb()], dtype=object)),
                  lambda: path.write_bytes(pickle.dumps(Bomb()))):
        write()
        assert kept.arrays(path, "1", lambda: {"a": np.array([7])})["a"].tolist() == [7]
    assert not hasattr(rostok, "exploded")


# ── Arrow ───────────────────────────────────────────────────────────────────────────────────────────────────


def _adapter(folder: Path, direction: NDArray[Any], rank: int) -> Path:
    """An adapter of one module whose strongest input is `direction`."""
    folder.mkdir(exist_ok=True)
    noise = torch.randn(rank, len(direction)) * 0.01
    noise[0] = torch.tensor(direction) * 3
    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": noise,
               "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": torch.eye(8)[:, :rank].contiguous()},
              folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {rank}, "bias": "none"}}')
    return folder


class FakeInputs(arrow.Inputs):
    """Every word is one direction; what `model.layers.0.self_attn.q_proj` is given is their mean."""

    def __init__(self) -> None:
        pass

    def cosines(self, text: str, directions: Mapping[str, Any]) -> NDArray[np.float32]:
        rows = [np.abs(np.eye(6)[len(word) % 6] @ next(iter(directions.values())).numpy().T) for word in text.split()]
        return np.mean(rows, axis=0, keepdims=True).astype(np.float32)


def test_arrow_takes_adapters_of_unequal_rank(tmp_path: Path, memory: Memory) -> None:
    """Arrow as published needs equal ranks; and a vector's sign is arbitrary."""
    torch.manual_seed(1)
    axes = np.eye(6, dtype=np.float32)
    folders = {"three": _adapter(tmp_path / "a", axes[3], 2), "five": _adapter(tmp_path / "b", -axes[5], 4)}
    found = arrow.prototypes(folders)["model.layers.0.self_attn.q_proj"]
    assert np.abs(found.astype(np.float32)) == pytest.approx(axes[[3, 5]], abs=0.02)
    inputs = FakeInputs()
    made = arrow.Arrow(arrow.fit(folders, inputs, ["a bb cccc dddd", "a abc hello", "bb cccc", "hello a abc abc"]), inputs)
    for text, name in (("abc sea abc", "three"), ("seeds glyph", "five")):
        scores = made.scores(Question(text, (), memory))
        assert max(scores, key=lambda one: scores[one]) == name and min(scores.values()) > 0


def test_arrow_takes_out_what_all_began_from(tmp_path: Path) -> None:
    """Prevents: prototypes that are all the school's, which is stronger than what any expert has learned beyond it."""
    axes = np.eye(6, dtype=np.float32)
    begun = read_adapter(_adapter(tmp_path / "school", 5 * axes[0], 2))
    folders = {}
    for name, axis in (("three", 3), ("five", 5)):
        own = lowrank.add([read_adapter(_adapter(tmp_path / f"own {name}", axes[axis], 2)), begun], (1.0, 1.0))
        folders[name] = tmp_path / name
        write_adapter(own, folders[name])
    module = "model.layers.0.self_attn.q_proj"
    assert np.abs(arrow.prototypes(folders)[module].astype(np.float32)) == pytest.approx(axes[[0, 0]], abs=0.25)
    assert np.abs(arrow.prototypes(folders, begun)[module].astype(np.float32)) == pytest.approx(axes[[3, 5]], abs=0.02)


def test_arrow_without_experts_says_so(material: Material) -> None:
    """`IndexError` in a run whose experts are not trained yet."""
    material.run.registry.unlink()
    with pytest.raises(RunError, match=r"no experts yet.*rostok swarm train"):
        open_strategy("arrow", material)


def test_arrow_leaves_out_whose_adapter_is_gone_or_changed(material: Material, monkeypatch: pytest.MonkeyPatch,
                                                          seeds: list[Seed]) -> None:
    """A whole ensemble that does not start because one expert's file was taken away; a stranger's matrices under its name."""
    run, axes = material.run, np.eye(6, dtype=np.float32)
    experts = [one.model_copy(update={"adapter_sha256": file_digest(
        _adapter(run.experts / one.seed, axes[place], 2) / "adapter_model.safetensors")})
        for place, one in enumerate(read_jsonl(run.registry, Expert))]
    append_jsonl(run.registry, experts)
    (run.experts / seeds[0].id / "adapter_model.safetensors").unlink()
    _adapter(run.experts / seeds[1].id, axes[5], 2)
    monkeypatch.setattr(arrow, "Inputs", lambda base: FakeInputs())
    scores = open_strategy("arrow", material).scores(Question("ab abc abcd", (), material.memory))
    assert set(scores) == {seed.id for seed in seeds[2:]} and scores


# ── what is asked ───────────────────────────────────────────────────────────────────────────────────────────


def _bench_questions(name: str) -> Any:
    path = Path(__file__).parents[3] / "bench" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold()).strip()


def _content(text: str) -> frozenset[str]:
    """What a question is about: its words without those that only ask, and without their endings."""
    asking = (r"\b(an?|the|is|are|was|do|does|did|i|my|me|you|your|of|to|in|on|for|it|what|how|why|who|when|where|which|can|"
              r"could|tell|explain|give|about|simple|words|easiest|way|teach|want|begin|hard|example|important|came|up|with|people)\b")
    return frozenset(word.rstrip("s") for word in re.sub(asking, " ", _plain(text)).split())


def test_nothing_is_measured_on_what_was_learned_from() -> None:
    """A threshold found on the questions that it is measured with; a paraphrase that some page uses."""
    fresh, known = _bench_questions("questions"), _bench_questions("questions_known")
    learned = {_plain(text) for text in nobodys()}
    measured = [_plain(text) for asked in (fresh, known) for text in (*asked.GENERAL, *asked.NEAR)]
    measured += map(_plain, HELD_OUT)
    assert not learned & set(measured) and len(set(measured)) == len(measured) >= 500
    lessons = {_content(text) for text in nobodys()}
    near_copies = [text for text in (*fresh.GENERAL, *fresh.NEAR) if _content(text) in lessons]
    assert not near_copies, near_copies
    frames = {_plain(text) for family in (wordings.STEPS, wordings.QUESTIONS) for family_ in family.values() for text in family_}
    frames |= {_plain(text) for text in wordings.ABOUT}
    paraphrases = [_plain(text) for asked in (fresh, known) for text in asked.PARAPHRASES]
    assert not frames & {*paraphrases, *(_plain(text) for text in probes.QUESTIONS)}
    assert len(set(paraphrases)) == len(paraphrases) >= 24
