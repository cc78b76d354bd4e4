"""One answer by one expert or by several: whose words they are, and what they cost."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rostok.config import EnsembleSettings, Mixing
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.ensemble.hot import keep_hot
from rostok.ensemble.routing.router import Route
from rostok.ensemble.speak import Speaker
from rostok.errors import AdapterError, ModelError
from rostok.swarm.adapter_gguf import export_adapter

GREEDY = Sampling(max_tokens=16, temperature=0, dry=0)
LONG = Sampling(max_tokens=300, temperature=0, dry=0)
FIRST = Sampling(max_tokens=1, temperature=0, dry=0)
QUESTION = "What does the lamp lead to?"
BEGINNINGS = (QUESTION, "Who is there?", "Is it late?", "Name a colour.", "How far is the moon?", "What is bread made of?",
              "Write one word.", "Where do rivers end?", "Tell me a secret.", "Count to three.")
TITLES = {"a": "Anna", "b": "Bruno", "again": "Anna again", "gone": "Greta"}
BASE = {"model_type": "llama", "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576,
        "tie_word_embeddings": True}


@pytest.fixture(scope="module")
def other(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that says other things than `adapter`."""
    folder = tmp_path_factory.mktemp("other")
    tensors = load_file(adapter.parent / "adapter_model.safetensors")
    torch.manual_seed(9)
    save_file({name: torch.randn_like(tensor) * 1.7 * tensor.std() for name, tensor in tensors.items()},
              folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((adapter.parent / "adapter_config.json").read_text())
    export_adapter(folder, folder / "adapter.gguf", BASE)
    return folder / "adapter.gguf"


@pytest.fixture(scope="module")
def engine(base_gguf: Path, adapter: Path, other: Path) -> Iterator[LlamaCppEngine]:
    with LlamaCppEngine(base_gguf, sequences=4, context=384, threads=1) as engine:
        for name, path in (("a", adapter), ("again", adapter), ("b", other)):
            engine.add_adapter(name, path)
        yield engine


@pytest.fixture(scope="module")
def speaker(engine: LlamaCppEngine) -> Speaker:
    return Speaker(engine, {"a", "b", "again"}, TITLES, EnsembleSettings())


def to(seed: str | None, **scores: float) -> Route:
    return Route(seed=seed, score=0.9, threshold=0.5, scores=scores or ({seed: 1.0} if seed else {}), neighbours=())


def alone(engine: Engine, adapter: str | None, sampling: Sampling = GREEDY, question: str = QUESTION) -> str:
    return engine.submit(Request((Message("user", question),), sampling, adapter=adapter)).result(60).text.strip()


# ── who speaks ──────────────────────────────────────────────────────────────────────────────────────────────


def test_one_speaks_as_it_does_alone_and_abstaining_equals_the_base(speaker: Speaker, engine: Engine) -> None:
    """The base's words under an expert's name, or an abstention that is not the base word for word."""
    texts = {seed: speaker.speak(QUESTION, to(seed), sampling=GREEDY) for seed in (None, "a", "b")}
    assert [one.experts for one in texts.values()] == [(), ("a",), ("b",)]
    said = [one.text for one in texts.values()]
    assert said == [alone(engine, seed) for seed in texts] and len(set(said)) == 3
    assert all(0 < one.tokens <= 16 < one.prompt_tokens and one.seconds > 0 and not one.note for one in texts.values())


def test_absent_expert_is_named(speaker: Speaker, engine: Engine) -> None:
    """`KeyError`, or a silent change of the speaker."""
    said = speaker.speak(QUESTION, to("gone"), sampling=GREEDY, mixing="judge")
    assert said.experts == () and "Greta" in said.note and said.text == alone(engine, None)


@pytest.mark.parametrize("mixing", ["one", "adapters", "tokens", "judge"])
def test_expert_whose_file_is_gone_is_stood_in_for(adapter: Path, tmp_path: Path, engine: LlamaCppEngine,
                                                   mixing: Mixing) -> None:
    """Prevents: an error for every question to an expert that was trained anew, or taken away, while the run is served."""
    path = tmp_path / "adapter.gguf"
    path.write_bytes(adapter.read_bytes())
    engine.add_adapter("lost", path)
    engine.hold(1)  # it has to be read anew
    alone(engine, "a")
    path.unlink()
    try:
        pieces, who = list[str](), list[str | None]()
        with_lost = Speaker(engine, {"a", "lost"}, {"lost": "Lost"}, EnsembleSettings())
        said = with_lost.speak(QUESTION, to("lost", lost=2.0, a=1.0), sampling=GREEDY, mixing=mixing, on_text=pieces.append,
                               on_speaker=who.append)
        assert who == [None]
        assert said.experts == () and "Lost" in said.note and "base answers" in said.note
        assert said.text == alone(engine, None) == "".join(pieces).strip()
    finally:
        engine.remove_adapter("lost")
        engine.hold(3)


def test_who_speaks_beside_whom(speaker: Speaker) -> None:
    """A far expert that speaks because somebody must; a pin that is overruled; weights that add up to less than 1."""
    route = to("a", a=6.0, gone=5.0, b=3.0, again=0.2)
    assert speaker.speakers(route) == (("a", 1.0),)
    assert speaker.speakers(route, "judge") == (("a", pytest.approx(2 / 3, abs=1e-3)), ("b", pytest.approx(1 / 3, abs=1e-3)))
    assert speaker.speakers(to("a", a=9.0, b=0.5), "tokens") == (("a", 1.0),)
    assert speaker.speakers(route.model_copy(update={"pinned": True}), "tokens") == (("a", 1.0),)
    assert speaker.speakers(to("b", a=6.0, b=3.0), "adapters")[0][0] == "b"  # the route's own choice comes first
    assert speaker.speakers(to(None, a=1.0), "judge") == ()
    three = to("a", a=5.0, b=3.0, again=2.0)
    assert [name for name, _ in speaker.speakers(three, "tokens")] == ["a", "b"]  # experts: 2
    of_three = Speaker(speaker.engine, speaker.serving, TITLES, EnsembleSettings(experts=3))
    assert of_three.speakers(three, "tokens") == (("a", 0.5), ("b", 0.3), ("again", 0.2))


# ── several ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_adapters_add_up(speaker: Speaker, engine: Engine) -> None:
    """Scales that are not looked at: 0.6 and 0.4 of the same change are that change."""
    both = speaker.speak(QUESTION, to("a", a=6.0, again=4.0), sampling=GREEDY, mixing="adapters")
    assert both.experts == ("a", "again") and both.text == alone(engine, "a")
    mixed = speaker.speak(QUESTION, to("a", a=5.0, b=5.0), sampling=GREEDY, mixing="adapters").text
    assert mixed not in (alone(engine, "a"), alone(engine, "b"))


def test_tokens_mix_distributions(speaker: Speaker, engine: LlamaCppEngine) -> None:
    """Voices that read each other's keys and values, or a mean of logits instead of probabilities."""
    same = speaker.speak(QUESTION, to("a", a=6.0, again=4.0), sampling=GREEDY, mixing="tokens")
    single = speaker.speak(QUESTION, to("a"), sampling=GREEDY)
    assert same.text == single.text and same.experts == ("a", "again")
    assert (same.tokens, same.prompt_tokens) == (2 * single.tokens, 2 * single.prompt_tokens)  # as costly as it is
    # Two voices that begin with different words: the heavier one's word is drawn just above the weight at which the mean of
    # the probabilities is even, and the other's just below. A mean of logits is even elsewhere; a voice alone never changes.
    asked, (one, two) = next((question, words) for question in BEGINNINGS
                             if len(set(words := tuple(alone(engine, name, FIRST, question) for name in ("a", "b")))) == 2)
    chances = {name: [math.exp(score.nats) for score in engine.score(
        engine.prompt(Request((Message("user", asked),))), [one, two], adapter=name)] for name in ("a", "b")}
    lead, lag = chances["a"][0] - chances["a"][1], chances["b"][1] - chances["b"][0]
    even = lag / (lead + lag)
    for weight, word in ((even + 0.03, one), (even - 0.03, two)):
        voices = (("a", weight), ("b", 1 - weight))
        assert engine.submit(Request((Message("user", asked),), FIRST, voices=voices)).result(60).text.strip() == word
    sure = engine.submit(Request((Message("user", QUESTION),), GREEDY, voices=(("b", 1.0), (None, 0.0)))).result(60)
    assert sure.text.strip() == alone(engine, "b")


def test_mixture_and_others_leave_each_other_alone(speaker: Speaker, engine: LlamaCppEngine) -> None:
    """The batch goes on with a voice's adapter; a sequence that is given to two; an answer of somebody else's words."""
    wanted = {"a": alone(engine, "a"), "b": alone(engine, "b"), None: alone(engine, None)}
    mixed = speaker.speak(QUESTION, to("a", a=5.0, b=5.0), sampling=GREEDY, mixing="tokens").text
    with ThreadPoolExecutor(8) as pool:
        many = [pool.submit(speaker.speak, QUESTION, to("a", a=5.0, b=5.0), sampling=GREEDY, mixing="tokens") for _ in range(3)]
        ones = [(seed, pool.submit(speaker.speak, QUESTION, to(seed), sampling=GREEDY)) for seed in ("a", "b", None) * 2]
        assert {one.result(120).text for one in many} == {mixed}
        assert all(future.result(120).text == wanted[seed] for seed, future in ones)
    assert sorted(engine._free) == list(range(engine.sequences)) and not engine._mixtures


def test_mixture_gets_its_places_on_a_busy_engine(engine: LlamaCppEngine) -> None:
    """A mixture that waits until nobody asks any more: it needs two places at once, and every free one was taken singly."""
    told = Message("user", "Tell me a long story about a harbour.")
    crowd = [engine.submit(Request((told,), Sampling(max_tokens=16 + 3 * number, temperature=0.8), seed=number))
             for number in range(16)]  # of unlike lengths, so that no two places become free in the same step
    said = engine.submit(Request((Message("user", QUESTION),), GREEDY, voices=(("a", 0.5), ("b", 0.5)))).result(120)
    waiting = sum(not one.done() for one in crowd)
    assert said.text and waiting > 4
    assert all(one.result(120).text for one in crowd)


@pytest.mark.parametrize("first, second", [("a", "b"), ("b", "a")])
def test_judge_takes_the_likeliest_answer_and_tells_the_whole_cost(speaker: Speaker, engine: Engine, first: str,
                                                                  second: str) -> None:
    """Words that nobody said, or the unlikelier ones; a name told before the judge has chosen; the cost of one answer for all."""
    told, who = list[str](), list[str | None]()
    route = to(first, **{first: 6.0, second: 4.0})
    said = speaker.speak(QUESTION, route, sampling=GREEDY, mixing="judge", on_text=told.append, on_speaker=who.append)
    answers = {name: alone(engine, name) for name in ("a", "b")}
    prompt = engine.prompt(Request((Message("user", QUESTION),), GREEDY))

    def likely(answer: str) -> float:  # the mean over both speakers, by the router's weights
        return sum(weight * math.exp(engine.submit_scores(prompt, [answer], adapter=name)[0].result(60).mean)
                   for name, weight in ((first, 0.6), (second, 0.4)))

    best = max(("a", "b"), key=lambda name: likely(answers[name]))
    assert likely(answers["a"]) != pytest.approx(likely(answers["b"]), rel=0.01)  # else there is nothing to judge
    assert said.text == answers[best] == "".join(told).strip()
    assert said.experts == (best, second if best == first else first) and who == ([] if best == first else [second])
    single = speaker.speak(QUESTION, to(first), sampling=GREEDY)
    assert said.tokens > single.tokens and said.prompt_tokens > 4 * single.prompt_tokens  # two answers, four readings


# ── a stop, and mistakes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mixing", ["one", "adapters", "tokens", "judge"])
def test_stop_ends_an_answer_and_frees_its_place(speaker: Speaker, engine: LlamaCppEngine, mixing: Mixing) -> None:
    """An engine that goes on writing for nobody, or a stop that loses what was said."""
    stop, told = threading.Event(), list[str]()
    stop.set()
    route = to("a", a=5.0, again=5.0)
    said = speaker.speak(QUESTION, route, sampling=LONG, stop=stop, mixing=mixing)
    assert (said.finish, said.text, said.tokens) == ("stopped", "", 0) and said.prompt_tokens > 0

    def hear(piece: str) -> None:
        told.append(piece)
        stop.set()

    stop.clear()
    before = engine.decoded_tokens
    if mixing != "judge":  # who tells nothing before all have answered
        said = speaker.speak(QUESTION, route, sampling=LONG, stop=stop, mixing=mixing, on_text=hear)
        assert said.finish == "stopped" and said.text == "".join(told).strip() and said.tokens > 0
    assert speaker.speak(QUESTION, to("b"), sampling=GREEDY).text == alone(engine, "b")
    assert engine.decoded_tokens - before < 120
    assert sorted(engine._free) == list(range(engine.sequences)) and not engine._mixtures


def test_voices_that_cannot_be_had_are_refused(engine: LlamaCppEngine) -> None:
    """An engine that spins for ever over a mixture with more voices than sequences, or over one of strangers."""
    ask = (Message("user", QUESTION),)
    with pytest.raises(AdapterError, match="no adapter 'nobody'"):
        engine.submit(Request(ask, GREEDY, voices=(("a", 0.5), ("nobody", 0.5)))).result(60)
    with pytest.raises(AdapterError, match="no adapter 'nobody'"):
        engine.submit(Request(ask, GREEDY, blend=(("a", 0.5), ("nobody", 0.5)))).result(60)
    with pytest.raises(ModelError, match="5 voices do not fit the 4 sequences"):
        engine.submit(Request(ask, GREEDY, voices=(("a", 0.2),) * 5)).result(60)


def test_engine_of_one_adapter_says_what_it_does_instead(speaker: Speaker, engine: LlamaCppEngine,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture promised by the settings and not given, without a word."""
    monkeypatch.setattr(type(engine), "mixes", False)
    said = speaker.speak(QUESTION, to("a", a=5.0, b=5.0), sampling=GREEDY, mixing="tokens")
    assert said.experts == ("a",) and "one adapter" in said.note
    with pytest.raises(ModelError, match=r"one adapter at most.*ensemble\.mixing"):
        engine.submit(Request((Message("user", QUESTION),), GREEDY, voices=(("a", 0.5), ("b", 0.5))))


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_cold_experts_come_back(engine: LlamaCppEngine) -> None:
    """More adapters in memory than it may hold; or a cold expert that answers as somebody else."""
    wanted = {name: alone(engine, name) for name in ("a", "b", "again")}
    engine.hold(1)
    for name in ("a", "b", "again", "a"):
        assert alone(engine, name) == wanted[name] and len(engine._shelf.hot) == 1
    engine.hold(3)


def test_the_budget_becomes_a_number_of_adapters(tmp_path: Path, engine: LlamaCppEngine) -> None:
    """A budget in MiB that nobody looks at, or that counts the smallest file; experts that speak together and do not fit."""
    files = [tmp_path / f"{number}.gguf" for number in range(100)]
    for file in files:
        file.touch()
        os.truncate(file, 3 << 20)  # of which nothing lies on the disk
    os.truncate(files[0], 5 << 20)
    assert keep_hot(engine, files, EnsembleSettings(hot_mib=52)) == 10
    assert keep_hot(engine, files, EnsembleSettings(hot_mib=1)) == 1
    assert keep_hot(engine, files, EnsembleSettings(hot_mib=1, mixing="tokens", experts=3)) == 3
    assert keep_hot(engine, files, EnsembleSettings(hot_mib=4096)) == 100
    assert engine._shelf._held == 100
    engine.hold(3)
