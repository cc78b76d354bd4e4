"""Hugging Face folders as GGUF: what llama.cpp makes of them is compared with what transformers makes of them."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from rostok.engines.export_gguf import _LLAMA3, _QWEN2, export_base
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Request, Sampling
from rostok.errors import ModelError, StorageError

TRICKY = (
    "In 2024 there were 12345678 of 3,141.59 and  7 more; x=007\t42",
    "Съешь же ещё этих мягких французских булок, ДА ВЫПЕЙ чаю №5 — 2024 года",
    "emoji 👩‍👩‍👧‍👦🏳️‍🌈 ☃️, café naïve, 漢字かな交じり, العربية ١٢٣",
    "line\nline\n\n\n   indented\r\n\ttab  \n ",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nIt's we'RE I'LL don't<|im_end|>\n<|endoftext|>",
    "def f(x):\n    return x**2  # !!! ... ???\n\n\n",
    " leading and trailing   ",
)
STORY = "The river was high that spring, and the ferryman would not cross. On the third day a woman came and said"
DIGITS = {"type": "Digits", "individual_digits": True}


def _bytes(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def exported(unpacked: Path) -> Path:
    out = unpacked.parent / "exported.gguf"
    export_base(unpacked, out)
    return out


@pytest.fixture(scope="session")
def random(unpacked: Path) -> Path:
    return _save(_config(LlamaConfig, num_hidden_layers=1), unpacked, unpacked.parent / "random")


@pytest.fixture
def tiny(random: Path, tmp_path: Path) -> Path:
    """A random one-layer Llama with the embedded tokenizer, for what does not depend on the weights."""
    return Path(shutil.copytree(random, tmp_path / "tiny"))


def _config(kind: type[PreTrainedConfig], **changes: Any) -> PreTrainedConfig:
    shape = {"vocab_size": 49152, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
             "eos_token_id": 2, "tie_word_embeddings": False, "rms_norm_eps": 1e-5}
    return kind(**{**shape, **changes})


def _save(config: PreTrainedConfig, tokenizer: Path, folder: Path, shard: str = "1GB") -> Path:
    """A random model whose every tensor, biases and norms too, makes a difference to what comes out."""
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            spread = 0.1 if weights.dim() == 1 else 1.5 / weights.shape[1] ** 0.5
            weights.copy_(torch.randn_like(weights) * spread + (1.0 if "norm" in name else 0.0))
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / name)
    return folder


def _edit(folder: Path, name: str, **changes: Any) -> None:
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**value, **changes}))


def _logprobs_transformers(folder: Path, tokens: list[int]) -> np.ndarray:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].log_softmax(-1).numpy()


def _logprobs_llamacpp(path: Path, tokens: list[int]) -> np.ndarray:
    # one thread: llama.cpp's threads spin while they wait, which takes seconds beside another busy process
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1)
    model.eval(tokens)
    scores = torch.tensor(np.array(model.scores[: len(tokens)])).log_softmax(-1).numpy()
    model.close()
    return scores


def _chosen(logprobs: np.ndarray, tokens: list[int]) -> np.ndarray:
    """What each position gave to the token that came next."""
    return np.take_along_axis(logprobs[:-1], np.array(tokens[1:])[:, None], axis=1)[:, 0]


def _vocabulary(path: Path) -> tuple[dict[str, str], list[list[int]]]:
    """The metadata that llama.cpp reads from a file, and its tokens of the tricky texts."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    metadata = dict(model.metadata)
    tokens = [model.tokenize(text.encode(), add_bos=False, special=True) for text in TRICKY]
    model.close()
    return metadata, tokens


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ── the embedded base ───────────────────────────────────────────────────────────────────────────────────────


def test_embedded_base_scores_and_continues_as_in_transformers(unpacked: Path, exported: Path) -> None:
    """A wrong rotation, a wrong norm or a shifted tensor: the file loads, and the model talks nonsense."""
    with LlamaCppEngine(exported, sequences=1, context=256, threads=1) as engine:
        sampling = Sampling(max_tokens=16, temperature=0.0, dry=0.0)
        answer = engine.submit(Request(messages=(), prefill=STORY, sampling=sampling)).result(60)
    tokenizer = AutoTokenizer.from_pretrained(unpacked)
    head, tokens = tokenizer.encode(STORY), tokenizer.encode(STORY + answer.text)
    assert len(tokens) == len(head) + 16
    reference, ours = _logprobs_transformers(unpacked, tokens), _logprobs_llamacpp(exported, tokens)
    assert np.abs(_chosen(reference, tokens) - _chosen(ours, tokens)).max() < 0.1  # measured 0.04
    lost = reference.max(-1)[:-1] - _chosen(reference, tokens)  # 0 where transformers is greedy for the same word
    assert lost[len(head) - 1 :].max() < 0.1


def test_no_chat_template_reaches_the_file(unpacked: Path, exported: Path) -> None:
    """A stranger's template is a program; loaders that find one run it (CVE-2024-34359)."""
    assert (unpacked / "chat_template.jinja").is_file()
    metadata, _ = _vocabulary(exported)
    assert metadata["tokenizer.ggml.model"] == "gpt2" and not [key for key in metadata if "template" in key]


# ── tokenizers ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("steps", "normalizer", "whole_words", "expected"), [
    (_bytes(True), None, False, "gpt-2"),
    (_sequence(DIGITS, _bytes(True)), None, False, "smollm"),
    (_sequence(_split(_LLAMA3), _bytes(False)), None, True, "llama-bpe"),
    (_sequence(_split(_QWEN2), _bytes(False)), {"type": "NFC"}, False, "qwen2"),
])
def test_tricky_texts_become_the_same_tokens(tiny: Path, tmp_path: Path, steps: dict[str, Any], expected: str,
                                             normalizer: dict[str, Any] | None, whole_words: bool) -> None:
    """llama.cpp cuts texts by the name in the file: a wrong name shifts numbers, blanks and capitals unseen."""
    words = json.loads((tiny / "tokenizer.json").read_text())["model"]
    _edit(tiny, "tokenizer.json", pre_tokenizer=steps, normalizer=normalizer,
          model={**words, "ignore_merges": whole_words})
    export_base(tiny, tmp_path / "out.gguf")
    metadata, tokens = _vocabulary(tmp_path / "out.gguf")
    assert metadata["tokenizer.ggml.pre"] == expected
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    assert tokens == [tokenizer.encode(text) for text in TRICKY]


@pytest.mark.parametrize("begins", [True, False])
def test_beginning_token_is_added_when_the_tokenizer_adds_it(tiny: Path, tmp_path: Path, begins: bool) -> None:
    """llama.cpp adds one for every `llama-bpe` model unless told not to: all prompts would be off by a token."""
    words = json.loads((tiny / "tokenizer.json").read_text())["model"]
    marker = "<|im_start|>"
    first = [{"SpecialToken": {"id": marker, "type_id": 0}}] if begins else []
    one, two = ({"Sequence": {"id": text, "type_id": 0}} for text in "AB")
    _edit(tiny, "tokenizer.json", pre_tokenizer=_sequence(_split(_LLAMA3), _bytes(False)),
          model={**words, "ignore_merges": True},
          post_processor={"type": "TemplateProcessing", "single": [*first, one], "pair": [one, two],
                          "special_tokens": {marker: {"id": marker, "ids": [1], "tokens": [marker]}}})
    export_base(tiny, tmp_path / "out.gguf")
    with LlamaCppEngine(tmp_path / "out.gguf", sequences=1, context=64) as engine:
        assert engine.tokenize("hello") == AutoTokenizer.from_pretrained(tiny).encode("hello")
        assert engine.adds_bos is begins


def test_vocabulary_smaller_than_the_embedding_is_padded(unpacked: Path, tmp_path: Path) -> None:
    """Qwen's embedding has more rows than its tokenizer has tokens; llama.cpp refuses a file where they differ."""
    folder = _save(_config(Qwen2Config, vocab_size=49280, num_hidden_layers=1), unpacked, tmp_path / "padded")
    export_base(folder, tmp_path / "out.gguf")
    assert np.isfinite(_logprobs_llamacpp(tmp_path / "out.gguf", [5, 6, 7])).all()


# ── families ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("config", "shard"), [
    pytest.param(_config(LlamaConfig), "2MB", id="llama untied in shards"),
    pytest.param(_config(LlamaConfig, tie_word_embeddings=True, attention_bias=True, head_dim=32, rope_parameters={
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}), "1GB", id="llama tied with biases and llama3 rotation"),
    pytest.param(_config(MistralConfig, sliding_window=None, rope_parameters={
        "rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}), "1GB", id="mistral with linear rotation"),
    pytest.param(_config(Qwen2Config), "1GB", id="qwen2 untied"),
    pytest.param(_config(Qwen2Config, tie_word_embeddings=True, num_key_value_heads=4), "1GB", id="qwen2 tied"),
    pytest.param(_config(Qwen3Config, tie_word_embeddings=True, head_dim=32), "1GB", id="qwen3 tied"),
])
def test_families_score_as_in_transformers(unpacked: Path, tmp_path: Path, config: PreTrainedConfig,
                                           shard: str) -> None:
    """Rotation of the wrong family, a head taken for tied, grouped keys in the wrong order, dropped biases."""
    folder = _save(config, unpacked, tmp_path / "model", shard)
    assert (folder / "model.safetensors.index.json").exists() == (shard != "1GB")
    export_base(folder, tmp_path / "out.gguf")
    tokens = np.random.default_rng(3).integers(20, 49000, 96).tolist()
    reference = _logprobs_transformers(folder, tokens)
    difference = reference - _logprobs_llamacpp(tmp_path / "out.gguf", tokens)
    assert difference.std() < 0.06  # measured 0.010–0.016; without the reordering of queries and keys 1.8
    assert reference.std() > 1.0


def test_transformers_4_keeps_theta_and_scaling_elsewhere(tiny: Path, tmp_path: Path) -> None:
    """`rope_theta` at the top of an older config.json read as the default: the model loses its thread at once."""
    config = json.loads((tiny / "config.json").read_text())
    del config["rope_parameters"]
    (tiny / "config.json").write_text(json.dumps({**config, "rope_theta": 12345.0,
                                                  "rope_scaling": {"type": "linear", "factor": 2.0}}))
    export_base(tiny, tmp_path / "out.gguf")
    metadata, _ = _vocabulary(tmp_path / "out.gguf")
    assert float(metadata["llama.rope.freq_base"]) == 12345.0
    assert float(metadata["llama.rope.scaling.factor"]) == 2.0


# ── what cannot be written ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("changes", "message"), [
    ({"model_type": "gemma2"}, "'gemma2'.*llama, mistral, qwen2, qwen3"),
    ({"hidden_act": "gelu"}, "'gelu'"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, "'yarn'"),
    ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "'llama3'.* has no 'low_freq_factor'"),
    ({"num_attention_heads": None}, "num_attention_heads"),
    ({"num_hidden_layers": 2}, r"model\.layers\.1\..*missing"),
    ({"vocab_size": 49000}, "vocab_size = 49000"),
])
def test_config_that_cannot_be_expressed_is_refused(tiny: Path, tmp_path: Path, changes: dict[str, Any],
                                                    message: str) -> None:
    """A model that llama.cpp computes differently must not become a file that loads."""
    _edit(tiny, "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        export_base(tiny, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_missing_head_is_not_taken_for_a_tied_one(tiny: Path, tmp_path: Path) -> None:
    """llama.cpp silently uses the embedding when the head is missing."""
    tensors = load_file(tiny / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tiny / "model.safetensors")
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        export_base(tiny, tmp_path / "out.gguf")


def test_quantised_weights_are_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    """Packed 8-bit numbers written as if they were weights."""
    tensors = load_file(tiny / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(128, 64, dtype=torch.int8)
    save_file(tensors, tiny / "model.safetensors")
    with pytest.raises(ModelError, match=r"up_proj\.weight \(I8\)"):
        export_base(tiny, tmp_path / "out.gguf")


@pytest.mark.parametrize(("change", "message"), [
    ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
    ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
    ({"pre_tokenizer": _sequence(_split(_LLAMA3), _bytes(False))}, "none of the known"),  # merges inside words
    ({"model": {"type": "Unigram", "vocab": []}}, "Unigram"),
    ({"model": {"type": "BPE", "merges": []}}, "cannot be read"),
    ({"model": {"type": "BPE", "byte_fallback": True, "vocab": {}, "merges": []}}, "SentencePiece"),
])
def test_unknown_tokenizers_are_named(tiny: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """llama.cpp falls back to a default cut, and every text comes out a little wrong."""
    _edit(tiny, "tokenizer.json", **change)
    with pytest.raises(ModelError, match=message):
        export_base(tiny, tmp_path / "out.gguf")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named_with_its_folder(tiny: Path, tmp_path: Path, name: str) -> None:
    """A bare FileNotFoundError does not say which of a model's files to fetch."""
    (tiny / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing in {tiny}.*hf download"):
        export_base(tiny, tmp_path / "out.gguf")


def test_missing_shard_is_named(unpacked: Path, tmp_path: Path) -> None:
    """A download that lost one of its shards."""
    folder = _save(_config(LlamaConfig), unpacked, tmp_path / "model", "2MB")
    lost = sorted(folder.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=f"{lost.name} is missing"):
        export_base(folder, tmp_path / "out.gguf")


def test_folders_with_only_a_sentencepiece_model_are_explained(tiny: Path, tmp_path: Path) -> None:
    """A Mistral 7B folder ended in a KeyError of the tokenizer."""
    (tiny / "tokenizer.json").rename(tiny / "tokenizer.model")
    with pytest.raises(ModelError, match="SentencePiece"):
        export_base(tiny, tmp_path / "out.gguf")


@pytest.mark.parametrize("keep", [4, 1000, 100_000])
def test_truncated_safetensors_is_refused(tiny: Path, tmp_path: Path, keep: int) -> None:
    """An interrupted download written on as zeros."""
    path = tiny / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors is cut short"):
        export_base(tiny, tmp_path / "out.gguf")


@pytest.mark.parametrize("size", [100, 1 << 20, 4 << 20])
def test_full_disk_keeps_the_old_file(tiny: Path, tmp_path: Path, size: int) -> None:
    """Half a GGUF under the final name loads in the next run; numpy's tofile hides that the disk was full."""
    out = tmp_path / "out" / "base.gguf"
    out.parent.mkdir()
    out.write_bytes(b"old")
    with _largest_file(size), pytest.raises(StorageError, match="Free some space"):
        export_base(tiny, out)
    assert out.read_bytes() == b"old" and [path.name for path in out.parent.iterdir()] == ["base.gguf"]
