"""vLLM behind the engine protocol, on the embedded base. Run by `make test-vllm`, which has vLLM's environment."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vllm", reason="vLLM lives in an environment of its own: make test-vllm")

from safetensors.numpy import save_file

from rostok.config import EMBEDDED
from rostok.engines.peft_adapter import CONFIG, WEIGHTS, shapes
from rostok.engines.protocol import Message, Request, Sampling
from rostok.engines.vllm import VllmEngine
from rostok.errors import AdapterError, GrammarError, ModelError
from rostok.models import find_base, training_folder
from tests.engines.contract import EngineContract

GREEDY = Sampling(max_tokens=12, temperature=0, dry=0)
QUESTION = (Message("user", "Why is the sky blue?"),)

MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="module")
def folder() -> Path:
    return training_folder(find_base(EMBEDDED))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VllmEngine]:
    with VllmEngine(folder, name="SmolLM2-135M-Instruct", context=384, sequences=16, adapters=3, rank=8) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def make_adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    """`make_adapter(seed, rank=4)`: a folder in PEFT's format with random weights, strong enough to change every answer."""
    base = shapes(folder)

    def make(seed: int, rank: int = 4, modules: tuple[str, ...] = ("q_proj", "v_proj", "down_proj")) -> Path:
        random, weights = np.random.default_rng(seed), {}
        for name, shape in base.items():
            module = name.removesuffix(".weight")
            if module.split(".")[-1] in modules:
                for side, size in (("A", (rank, shape[1])), ("B", (shape[0], rank))):
                    weights[f"base_model.model.{module}.lora_{side}.weight"] = random.normal(0, 0.1, size).astype(np.float32)
        target = tmp_path_factory.mktemp("adapter")
        save_file(weights, target / WEIGHTS)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(modules)}
        (target / CONFIG).write_text(json.dumps(config))
        return target

    return make


def greedy(engine: VllmEngine, adapter: str | None = None, **fields: object) -> str:
    request = Request(QUESTION, GREEDY, adapter=adapter, **fields)  # type: ignore[arg-type]
    return engine.submit(request).result(timeout=120).text


def unfinished(engine: VllmEngine) -> int:
    """Requests that vLLM still holds a place for."""
    return int(engine._vllm.get_num_unfinished_requests())


class TestVllm(EngineContract):
    """What every engine keeps. Another batch may round otherwise in bf16, so `any batch` is not promised."""

    promises = frozenset({"same batch", "alone"})

    @pytest.fixture(scope="class")
    def engine(self, folder: Path) -> Iterator[VllmEngine]:
        with VllmEngine(folder, sequences=self.slots, context=384, adapters=2, rank=8, queue=self.queue) as loaded:
            yield loaded

    @pytest.fixture(scope="class")
    def adapters(self, make_adapter: MakeAdapter) -> dict[str, Path]:
        return {"a": make_adapter(1), "b": make_adapter(2)}

    @pytest.fixture
    def another(self, folder: Path) -> Iterator[VllmEngine]:
        with VllmEngine(folder, sequences=2, context=384, adapters=0) as loaded:
            yield loaded


# ── adapters ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_version_under_the_same_name_answers_at_once(engine: VllmEngine, make_adapter: MakeAdapter) -> None:
    """Prevents: a prompt's keys and values of the old version, which vLLM keeps by the adapter's name (vllm#42125)."""
    long = (Message("system", "You answer in one short sentence. " * 20), *QUESTION)  # more than one block of the cache

    def answer(name: str) -> str:
        return engine.submit(Request(long, GREEDY, adapter=name)).result(timeout=120).text

    first, second = make_adapter(1), make_adapter(2)
    engine.add_adapter("cold-second", second)
    cold = answer("cold-second")
    engine.add_adapter("changing", first)
    old = answer("changing")
    engine.add_adapter("changing", second)
    assert answer("changing") == cold != old


def test_a_file_that_is_overwritten_changes_nothing(engine: VllmEngine, make_adapter: MakeAdapter) -> None:
    """Prevents: an expert that is half old and half new, because vLLM read its file again after training replaced it."""
    path = make_adapter(3)
    engine.add_adapter("kept", path)
    before = greedy(engine, "kept")
    shutil.copyfile(make_adapter(4) / WEIGHTS, path / WEIGHTS)
    assert greedy(engine, "kept", scale=1.0) == before
    assert greedy(engine, "kept", scale=0.999) == before  # read from the disk, since it is another strength


def test_adapters_in_one_batch_give_their_own_answers(engine: VllmEngine, make_adapter: MakeAdapter) -> None:
    """Prevents: rows of a mixed batch that are multiplied with a neighbour's adapter."""
    names = [None, "a", "b", "c"]
    for seed, name in enumerate(names[1:], start=5):
        engine.add_adapter(str(name), make_adapter(seed))
    alone = [greedy(engine, name) for name in names]
    assert len(set(alone)) == 4
    requests = [Request(QUESTION, GREEDY, adapter=name) for name in names * 3]
    assert [future.result(timeout=120).text for future in engine.submit_all(requests)] == alone * 3


def test_more_adapters_than_one_batch_holds_all_answer(engine: VllmEngine, make_adapter: MakeAdapter) -> None:
    """Prevents: a request that waits for ever for one of vLLM's slots, or gets the adapter of another one's slot."""
    names = [f"many-{number}" for number in range(5)]
    for seed, name in enumerate(names, start=20):
        engine.add_adapter(name, make_adapter(seed))
    alone = [greedy(engine, name) for name in names]
    futures = engine.submit_all([Request(QUESTION, GREEDY, adapter=name) for name in names * 2])
    assert [future.result(timeout=120).text for future in futures] == alone * 2


def test_an_adapter_counts_as_in_training(engine: VllmEngine, make_adapter: MakeAdapter, folder: Path) -> None:
    """Prevents: another scaling than alpha / rank, or a matrix at the wrong module or the wrong way round."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    path = make_adapter(12)
    engine.add_adapter("exact", path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    weights, modules = load_file(path / WEIGHTS), dict(model.named_modules())
    for name in [name for name in weights if name.endswith("lora_A.weight")]:
        delta = 2.0 * weights[name.replace("lora_A", "lora_B")] @ weights[name]  # alpha is twice the rank
        modules[name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")].weight.data += delta
    head, tokens = engine.tokenize("The sky is"), engine.tokenize("The sky is blue because the air scatters light.")
    with torch.no_grad():
        likely = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    nats = sum(float(likely[at - 1, tokens[at]]) for at in range(len(head), len(tokens)))
    score = engine.score("The sky is", [" blue because the air scatters light."], adapter="exact")[0]
    base = engine.score("The sky is", [" blue because the air scatters light."])[0]
    assert score.nats == pytest.approx(nats, rel=0.02)
    assert abs(score.nats - base.nats) > 5


def test_the_scale_is_the_adapters_strength(engine: VllmEngine, make_adapter: MakeAdapter) -> None:
    """Prevents: a scale that vLLM, which has none per request, passes over in silence."""
    engine.add_adapter("scaled", make_adapter(9))
    texts = [greedy(engine, "scaled", scale=scale) for scale in (0.0, 1.0, 4.0)]
    assert texts[0] == greedy(engine)
    assert len(set(texts)) == 3
    nats = [engine.score("The sky is", [" blue."], adapter="scaled", scale=scale)[0].nats for scale in (0.0, 1.0)]
    assert nats[0] == pytest.approx(engine.score("The sky is", [" blue."])[0].nats, abs=0.1)
    assert abs(nats[1] - nats[0]) > 0.1


def test_an_adapter_in_flight_is_finished_before_it_is_forgotten(engine: VllmEngine, make_adapter: MakeAdapter) -> None:
    """Prevents: an answer that changes its voice in the middle, or fails, when its expert is removed."""
    engine.add_adapter("leaving", make_adapter(10))
    whole = Sampling(max_tokens=60, temperature=0, dry=0)
    request = Request(QUESTION, whole, adapter="leaving")
    undisturbed = engine.submit(request).result(timeout=120).text
    begun, pieces = time.monotonic(), list[str]()
    future = engine.submit(request, pieces.append)
    while not pieces and time.monotonic() - begun < 60:
        time.sleep(0.01)
    folder = engine._adapters["leaving"].folder
    engine.remove_adapter("leaving")
    with pytest.raises(AdapterError, match="no adapter 'leaving' is registered"):
        greedy(engine, "leaving")
    assert future.result(timeout=120).text == undisturbed
    greedy(engine)
    assert not folder.exists()
    with pytest.raises(AdapterError, match="no adapter 'leaving'"):
        engine.remove_adapter("leaving")


@pytest.mark.parametrize(("damage", "reason"), [
    ("no config", "has no adapter_config.json"), ("pickle", "has no adapter_model.safetensors"),
    ("cut", "cut short or damaged"), ("another base", "in the base, but lora_A is"), ("too high", "rank 16, more than"),
    ("no such module", "the base has no"), ("not a LoRA", "is not of a LoRA"), ("words", "takes no adapter on it"),
    ("dora", "DoRA"), ("empty", "holds no weights")])
def test_an_adapter_that_does_not_fit_is_refused(engine: VllmEngine, make_adapter: MakeAdapter, damage: str, reason: str) -> None:
    """Prevents: a pickle that runs, or shapes that vLLM finds wrong in the middle of everybody's batch."""
    path = make_adapter(11, rank=16 if damage == "too high" else 4)
    config = json.loads((path / CONFIG).read_text())
    plain = np.ones((4, 576), np.float32), np.ones((576, 4), np.float32)
    tensors = {"another base": ("model.layers.0.self_attn.q_proj", np.ones((4, 99), np.float32), plain[1]),
               "no such module": ("model.layers.99.self_attn.q_proj", *plain), "words": ("lm_head", *plain)}
    if damage in tensors:
        module, down, up = tensors[damage]
        save_file({f"base_model.model.{module}.lora_A.weight": down, f"base_model.model.{module}.lora_B.weight": up},
                  path / WEIGHTS)
    match damage:
        case "no config":
            (path / CONFIG).unlink()
        case "pickle":
            (path / WEIGHTS).rename(path / "adapter_model.bin")
        case "cut":
            (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:5000])
        case "not a LoRA":
            (path / CONFIG).write_text(json.dumps({**config, "peft_type": "IA3"}))
        case "dora":
            (path / CONFIG).write_text(json.dumps({**config, "use_dora": True}))
        case "empty":
            save_file({}, path / WEIGHTS)
    with pytest.raises(AdapterError, match=reason):
        engine.add_adapter("broken", path)
    assert "broken" not in engine._adapters
    assert greedy(engine)


# ── what vLLM alone could get wrong ─────────────────────────────────────────────────────────────────────────


def test_a_long_prompt_does_not_break_seeded_requests(engine: VllmEngine) -> None:
    """Prevents: a prompt that vLLM computes in parts, which crashes random generators on the CPU and ends everything."""
    sampling = Sampling(max_tokens=3, temperature=1.0)
    prompts = [f"{number} " + "word " * 300 for number in range(40)]
    futures = engine.submit_all([Request((), sampling, prefill=prompt, seed=seed) for seed, prompt in enumerate(prompts)])
    assert all(future.result(timeout=300).tokens for future in futures)  # 12,000 tokens, three passes


def test_the_same_batch_gives_the_same_texts(engine: VllmEngine) -> None:
    """Prevents: a night that cannot be repeated; also that all random seeds of a best-of-N give one text."""
    batch = [Request(QUESTION, Sampling(max_tokens=12, temperature=1.0), seed=seed) for seed in range(16)]
    first, second = ([future.result(timeout=120).text for future in engine.submit_all(batch)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 8


def test_dry_is_a_repetition_penalty_here(engine: VllmEngine) -> None:
    """Prevents: the setting against loops that is dropped in silence where DRY does not exist."""
    def words(dry: float) -> list[str]:
        sampling = Sampling(max_tokens=60, temperature=0, dry=dry)
        prompt = "one two three one two three one two"
        return engine.submit(Request((), sampling, prefill=prompt)).result(timeout=120).text.split()

    assert len(set(words(0.8))) > 3 * len(set(words(0)))


def test_a_failed_step_is_told_and_survived(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: one bad batch that ends the engine's thread, so that every later caller waits for ever."""
    with monkeypatch.context() as patch:
        patch.setattr(engine._vllm.model_executor, "execute_model", _fail)
        with pytest.raises(ModelError, match="failed: out of memory"):
            greedy(engine)
    assert greedy(engine)
    assert unfinished(engine) == 0


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError("out of memory")


def test_a_caller_that_chokes_on_a_piece_harms_nobody(engine: VllmEngine) -> None:
    """Prevents: a broken chat window that ends the engine's thread."""
    def choke(text: str) -> None:
        raise ValueError("the window is gone")

    request = Request(QUESTION, Sampling(max_tokens=40, temperature=0))
    bad, good = engine.submit(request, choke), engine.submit(request)
    with pytest.raises(ValueError, match="the window is gone"):
        bad.result(timeout=120)
    assert good.result(timeout=120).tokens
    assert unfinished(engine) == 0


def test_a_grammar_without_an_end_is_told(engine: VllmEngine) -> None:
    """Prevents: a rule that only calls itself, which vLLM compiles and then has no word for."""
    with pytest.raises(GrammarError, match="cannot be compiled"):
        engine.submit(Request(QUESTION, GREEDY, grammar='root ::= root "a"')).result(timeout=120)


def test_engines_take_turns(engine: VllmEngine, folder: Path) -> None:
    """Prevents: two engines in vLLM's globals at once, and the one that closes first taking the other's groups with it."""
    alone = greedy(engine)
    for _ in range(2):
        with VllmEngine(folder, sequences=2, context=128, adapters=0) as other:
            futures = [one.submit(Request(QUESTION, GREEDY)) for one in (engine, other) * 3]
            assert {future.result(timeout=120).text for future in futures} == {alone}
            with pytest.raises(AdapterError, match="runs without adapters"):
                other.add_adapter("a", folder)
    assert greedy(engine) == alone


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    """Prevents: a pickle that is opened for want of safetensors, and a traceback for a mistyped path."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match=r"has no config\.json with \*\.safetensors"):
        VllmEngine(tmp_path)


def test_vllm_leaves_no_trace_in_the_process(engine: VllmEngine) -> None:
    """Prevents: commands that Rostok starts later and that load vLLM's libraries; training on frozen threads; telemetry."""
    import os

    import torch

    assert "libgomp" not in os.environ.get("LD_PRELOAD", "")
    assert torch.set_num_threads.__name__ == "set_num_threads"
    assert os.environ["VLLM_NO_USAGE_STATS"] == os.environ["DO_NOT_TRACK"] == "1"


def test_the_place_of_a_cancelled_request_is_free(engine: VllmEngine) -> None:
    """Prevents: chats that were broken off and fill vLLM's batch for good."""
    long = Sampling(max_tokens=300, temperature=1.0)
    futures: list[Future[object]] = list(  # more than run at once
        engine.submit_all([Request(QUESTION, long, seed=seed) for seed in range(150)]))  # type: ignore[arg-type]
    time.sleep(0.5)
    for future in futures:
        future.cancel()
    assert greedy(engine)
    assert unfinished(engine) == 0
    assert not engine._running
