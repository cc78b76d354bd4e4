"""PEFT adapters as GGUF: what llama.cpp makes of one is compared with what PEFT makes of it."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config

from rostok.engines.export_gguf import export_base
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Request, Sampling
from rostok.errors import ModelError, StorageError
from rostok.swarm.adapter_gguf import export_adapter

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TEXTS = (
    "The river was high that spring, and the ferryman would not cross. On the third day a woman came and said",
    "Question: why is the sky blue?\nAnswer: because of the way in which the air",
    "<|im_start|>user\nTell me about three fruits.<|im_end|>\n<|im_start|>assistant\n",
    "Первый снег выпал ночью, и утром дети",
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def base(unpacked: Path) -> Path:
    """The embedded base as a Hugging Face folder, and beside it as base.gguf."""
    export_base(unpacked, unpacked.parent / "base.gguf")
    return unpacked


@pytest.fixture(scope="session")
def adapter(base: Path) -> Path:
    """A random adapter on every linear layer that changes what the base says, but leaves it speaking."""
    folder = base.parent / "adapter"
    _random_adapter(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder, spread=0.12)
    return folder


@pytest.fixture(scope="session")
def random(base: Path) -> Path:
    return _tiny(base, base.parent / "tiny", LlamaConfig)


@pytest.fixture
def tiny(random: Path, tmp_path: Path) -> Path:
    """A random Llama of two layers with an adapter in `tiny/adapter`, for what does not depend on the weights."""
    return Path(shutil.copytree(random, tmp_path / "tiny"))


def _tiny(base: Path, folder: Path, kind: type[LlamaConfig] | type[Qwen2Config], **lora: Any) -> Path:
    torch.manual_seed(5)
    config = kind(vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2,
                  initializer_range=0.2, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    _random_adapter(model, folder / "adapter", spread=0.3, **lora)
    return folder


def _random_adapter(model: Any, folder: Path, *, spread: float, **changes: Any) -> None:
    torch.manual_seed(11)
    settings = {"r": 8, "lora_alpha": 16, "target_modules": list(LINEAR), "task_type": "CAUSAL_LM", **changes}
    adapted = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                weights.copy_(torch.randn_like(weights) * spread)
    adapted.save_pretrained(folder)


def _config(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def _edit(folder: Path, name: str, **changes: Any) -> None:
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, **changes}))


def _with_peft(base: Path, adapter: Path | None, texts: Sequence[list[int]]) -> list[np.ndarray]:
    """(position, word) log-probabilities of each text."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    with torch.no_grad():
        return [model(torch.tensor([text])).logits[0].log_softmax(-1).numpy() for text in texts]


def _with_llamacpp(path: Path, adapter: Path | None, texts: Sequence[list[int]]) -> list[np.ndarray]:
    # one thread: llama.cpp's threads spin while they wait, which takes seconds beside another busy process
    model = llama_cpp.Llama(str(path), lora_path=str(adapter) if adapter else None, n_ctx=256, logits_all=True,
                            verbose=False, n_threads=1, n_threads_batch=1)
    result = []
    for text in texts:
        model.reset()
        model.eval(text)
        result.append(torch.tensor(np.array(model.scores[: len(text)])).log_softmax(-1).numpy())
    model.close()
    return result


def _chosen(logprobs: np.ndarray, tokens: list[int]) -> np.ndarray:
    """What each position gave to the token that came next."""
    return np.take_along_axis(logprobs[:-1], np.array(tokens[1:])[:, None], axis=1)[:, 0]


# ── the same numbers as PEFT ────────────────────────────────────────────────────────────────────────────────


def test_adapter_speaks_in_llamacpp_as_in_peft(base: Path, adapter: Path, tmp_path: Path) -> None:
    """An adapter with queries and keys not reordered, or scaled wrongly, loads and quietly spoils the expert."""
    export_adapter(adapter, tmp_path / "adapter.gguf", _config(base))
    path = base.parent / "base.gguf"
    with LlamaCppEngine(path, sequences=4, context=256, threads=1) as engine:
        engine.add_adapter("random", tmp_path / "adapter.gguf")
        sampling = Sampling(max_tokens=12, temperature=0.0, dry=0.0)
        answers = engine.submit_all([Request((), prefill=text, sampling=sampling, adapter=name)
                                     for name in ("random", None) for text in TEXTS])
        spoken = [answer.result(60).text for answer in answers]
    assert all(one != two for one, two in zip(spoken[:4], spoken[4:], strict=True))
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [tokenizer.encode(text + more) for text, more in zip(TEXTS, spoken[:4], strict=True)]
    ours = _with_llamacpp(path, tmp_path / "adapter.gguf", texts)
    theirs = _with_peft(base, adapter, texts)
    plain = _with_llamacpp(path, None, texts[:1])[0]
    effect = np.abs(_chosen(plain, texts[0]) - _chosen(theirs[0], texts[0])).mean()
    worst = lost = 0.0
    for text, tokens, one, two in zip(TEXTS, texts, ours, theirs, strict=True):
        begin = len(tokenizer.encode(text))
        worst = max(worst, np.abs(_chosen(one, tokens) - _chosen(two, tokens)).max())
        lost = max(lost, (two.max(-1)[:-1] - _chosen(two, tokens))[begin - 1 :].max())
    assert worst < 0.15  # measured 0.05; with queries and keys not reordered 2.4
    assert effect > 0.3
    assert lost < 0.15  # PEFT is greedy for the words that the engine chose


@pytest.mark.parametrize(("kind", "lora"), [
    pytest.param(LlamaConfig, {"use_rslora": True}, id="llama rsLoRA"),
    pytest.param(LlamaConfig, {"layers_to_transform": [1], "target_modules": ["k_proj"]}, id="llama keys only"),
    pytest.param(Qwen2Config, {"r": 4, "lora_alpha": 6}, id="qwen2"),
])
def test_families_and_scales_agree_with_peft(base: Path, tmp_path: Path, kind: Any, lora: dict[str, Any]) -> None:
    """rsLoRA taken for plain scaling, or Qwen's queries reordered like Llama's."""
    folder = _tiny(base, tmp_path / "model", kind, **lora)
    export_base(folder, tmp_path / "base.gguf")
    export_adapter(folder / "adapter", tmp_path / "adapter.gguf", _config(folder))
    texts = [np.random.default_rng(1).integers(20, 49000, 64).tolist()]
    ours = _with_llamacpp(tmp_path / "base.gguf", tmp_path / "adapter.gguf", texts)[0]
    theirs, plain = (_with_peft(folder, path, texts)[0] for path in (folder / "adapter", None))
    assert (ours - theirs).std() < 0.06  # measured 0.025–0.032; not reordered 0.6–2.1
    assert (plain - theirs).std() > 0.3


def test_half_precision_adapters_stay_half(tiny: Path, tmp_path: Path) -> None:
    """bf16 cannot be kept (not every backend multiplies it); F16 must not be blown up to twice its size."""
    path = tiny / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    for kind, expected in ((torch.float16, "F16"), (torch.bfloat16, "F32")):
        save_file({name: tensor.to(kind) for name, tensor in tensors.items()}, path)
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))
        found = gguf.GGUFReader(tmp_path / "out.gguf").tensors
        assert {tensor.tensor_type.name for tensor in found} == {expected}
        assert len(found) == len(tensors) == 2 * 2 * len(LINEAR)
        name = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
        same = next(tensor for tensor in found if tensor.name == "blk.1.ffn_up.weight.lora_a")
        assert np.array_equal(same.data, tensors[name].to(kind).float().numpy().astype(same.data.dtype))


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("changes", "name"), [
    ({"use_dora": True}, "use_dora"),
    ({"bias": "lora_only"}, "bias=lora_only"),
    ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
    ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ({"use_dora": True, "lora_bias": True}, "use_dora, lora_bias"),
    ({"peft_type": "IA3"}, "IA3"),
    ({"lora_alpha": 0}, "lora_alpha = 0"),
    ({"r": 16}, "rank 16"),
])
def test_what_llamacpp_cannot_express_is_named(tiny: Path, tmp_path: Path, changes: dict[str, Any],
                                               name: str) -> None:
    """A half-exported adapter answers, only not as it was trained to."""
    _edit(tiny / "adapter", "adapter_config.json", **changes)
    with pytest.raises(ModelError, match=name):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("pickle", ["adapter_model.bin", "adapter_model.pt"])
def test_pickles_are_refused_unopened(tiny: Path, tmp_path: Path, pickle: str) -> None:
    """Opening a stranger's pickle runs his code."""
    (tiny / "adapter" / "adapter_model.safetensors").rename(tiny / "adapter" / pickle)
    (tiny / "adapter" / pickle).chmod(0)
    with pytest.raises(ModelError, match=rf"{pickle} is a pickle.*refused"):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_file_is_named(tiny: Path, tmp_path: Path, name: str) -> None:
    """A bare FileNotFoundError does not say what to bring."""
    (tiny / "adapter" / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing in {tiny / 'adapter'}"):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))


def test_truncated_safetensors_is_refused(tiny: Path, tmp_path: Path) -> None:
    """A copy that was interrupted ended in the library's `MetadataIncompleteBuffer`."""
    path = tiny / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is cut short"):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))


@pytest.mark.parametrize(("changes", "message"), [
    ({"model_type": "gpt_neox"}, "'gpt_neox'.*llama, mistral, qwen2, qwen3"),
    ({"num_hidden_layers": 1}, r"layers\.1\."),
    ({"num_attention_heads": 5}, "another base"),
])
def test_base_that_does_not_fit_is_refused(tiny: Path, tmp_path: Path, changes: dict[str, Any],
                                           message: str) -> None:
    """An adapter for another family or depth, written as if it belonged here."""
    with pytest.raises(ModelError, match=message):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", {**_config(tiny), **changes})


def test_lonely_half_and_tied_head_are_refused(tiny: Path, tmp_path: Path) -> None:
    """A pair that lost its B; an adapter on a head which llama.cpp does not have when it is shared."""
    path = tiny / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    lost = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, path)
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj"):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))
    head = {"base_model.model.lm_head.lora_A.weight": torch.ones(8, 64),
            "base_model.model.lm_head.lora_B.weight": torch.ones(49152, 8)}
    save_file({**tensors, **head}, path)
    with pytest.raises(ModelError, match=r"lm_head.*shares"):
        export_adapter(tiny / "adapter", tmp_path / "out.gguf", _config(tiny))


def test_full_disk_keeps_the_old_adapter(tiny: Path, tmp_path: Path) -> None:
    """Half an adapter under the final name is served by the next run."""
    out = tmp_path / "out" / "adapter.gguf"
    out.parent.mkdir()
    out.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match="Free some space"):
            export_adapter(tiny / "adapter", out, _config(tiny))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == b"old" and [path.name for path in out.parent.iterdir()] == ["adapter.gguf"]
