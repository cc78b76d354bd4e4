"""A Hugging Face model folder as one BF16 GGUF that llama.cpp loads: `export_base(folder, out)`.

Families: llama, mistral (byte-level BPE vocabularies only), qwen2, qwen3. The folder's chat template is left out:
it is a program by a stranger (see `rostok.engines.templates`). One tensor is in memory at a time.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from rostok.errors import ModelError, writing

ARCHITECTURES = {  # the model_type of config.json, and what llama.cpp calls it
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
_BYTES = {Kind.F32: 4, Kind.F16: 2, Kind.BF16: 2}
_COPY = "Copy it from where the model came from (`hf download <model> --local-dir <folder>` fetches every file)."

_LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_QWEN2 = _LLAMA3.replace("{1,3}", "")
_PRE_TOKENIZERS = {  # what tokenizer.json does before its merges, and llama.cpp's name for it
    "digits one by one, bytes after GPT-2's pattern": "smollm",
    f"split {_LLAMA3}, bytes, whole words first": "llama-bpe",
    f"split {_QWEN2}, bytes": "qwen2",
    # llama.cpp does not normalise: text in decomposed Unicode comes out as other tokens than in transformers
    f"NFC, split {_QWEN2}, bytes": "qwen2",
    "bytes after GPT-2's pattern": "gpt-2",
}


@dataclass(frozen=True)
class Piece:
    """One tensor of a GGUF file; `load` gives its numbers, row-major, as wide as `kind`, when its turn comes."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    load: Callable[[], np.ndarray]


def export_base(folder: Path, out: Path) -> None:
    """Write the model in `folder` (config.json, tokenizer.json, safetensors, sharded or not) to `out` as GGUF.

    Matrices are BF16, vectors F32. `out` is replaced whole or not at all.

    Raises:
        ModelError: a file is missing or damaged, or the model has something that the file could not express.
        StorageError: the disk refused.
    """
    config = read_json(folder, "config.json")
    tokenizer = read_json(folder, "tokenizer.json")
    arch = architecture(config)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(folder.resolve().name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    pieces = _add_hyperparameters(writer, config)
    _add_tokenizer(writer, folder, tokenizer, number(config, "vocab_size"))
    with _weights(folder) as weights:
        pieces += _pieces(config, weights)
        write_gguf(writer, out, pieces)


# ── what the adapter's export uses too ──────────────────────────────────────────────────────────────────────


def architecture(config: Mapping[str, Any]) -> gguf.MODEL_ARCH:
    """llama.cpp's architecture of a Hugging Face config. Raises `ModelError` for one that is not supported."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ModelError(f"models of type {kind!r} cannot be written as GGUF; supported are "
                         f"{', '.join(ARCHITECTURES)}. Convert this one with llama.cpp's own script.")
    return ARCHITECTURES[kind]


def for_llama_rotation(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key projection, (heads·d, …), in the order that llama.cpp's `llama` architecture expects.

    transformers rotates the pairs (i, i + d/2) of a head, llama.cpp the pairs (2i, 2i + 1).
    """
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def rotation_heads(config: Mapping[str, Any], name: str) -> int:
    """Heads by which the module `name` (without `.weight`) must be reordered; 0 when it stays as it is."""
    if architecture(config) is not gguf.MODEL_ARCH.LLAMA:
        return 0
    if name.endswith(".q_proj"):
        return number(config, "num_attention_heads")
    if name.endswith(".k_proj"):
        return number(config, "num_key_value_heads", number(config, "num_attention_heads"))
    return 0


def number(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A positive whole number of a config. Raises `ModelError` when it is neither there nor given a default."""
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"config.json has {key} = {value!r}, not a positive whole number. "
                         "The file is damaged or of another kind of model; get it again.")
    return value


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object from a model or adapter folder. Raises `ModelError` when it is missing or damaged."""
    path = folder / name
    if not path.is_file():
        if name == "tokenizer.json" and (pieces := sorted(folder.glob("*.model"))):
            raise ModelError(f"{folder} has only a SentencePiece vocabulary ({pieces[0].name}) and no "
                             "tokenizer.json; only byte-level BPE can be written as GGUF. Take another base.")
        raise ModelError(f"{name} is missing in {folder}. {_COPY}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}). Get the file again.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} does not hold a JSON object. Get the file again.")
    return value


def open_safetensors(path: Path) -> Any:
    """The open file, to be used in a `with`. Raises `ModelError` when it is missing, cut short or damaged."""
    if not path.is_file():
        raise ModelError(f"{path.name} is missing in {path.parent}. {_COPY}")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ModelError(f"{path} is cut short or damaged ({error}). Get the file again.") from None


def write_gguf(writer: gguf.GGUFWriter, out: Path, pieces: Sequence[Piece]) -> None:
    """Write the metadata of `writer` and the tensors to `out`; a reader sees the old file or the whole new one.

    Raises:
        StorageError: the disk refused; an older `out` is untouched.
    """
    for piece in pieces:
        # beside `raw_dtype`, numpy's type only says that the shape counts numbers, not bytes (uint8)
        writer.add_tensor_info(piece.name, piece.shape, np.dtype(np.float32),
                               math.prod(piece.shape) * _BYTES[piece.kind], raw_dtype=piece.kind)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            writer.write_header_to_file(temporary)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            (file,) = writer.fout
            for piece in pieces:
                writer.write_padding(file, file.tell())
                # not write_tensor_data: numpy's tofile loses the reason when the disk is full
                file.write(np.ascontiguousarray(piece.load()).data)
            writer.write_padding(file, file.tell())
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp makes 0600
            temporary.replace(out)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            for open_file in writer.fout or ():
                with suppress(OSError):  # a full disk refuses the buffered rest a second time
                    open_file.close()


# ── hyperparameters ─────────────────────────────────────────────────────────────────────────────────────────


def _add_hyperparameters(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> list[Piece]:
    """Shapes, norms and rotation. Returns the tensor of rotation factors when the model has one (Llama 3.1)."""
    heads, width = number(config, "num_attention_heads"), number(config, "hidden_size")
    head = number(config, "head_dim", width // heads)
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"the activation {config['hidden_act']!r} (config.json, hidden_act) cannot be written as "
                         "GGUF; only silu can. Take another base.")
    context = number(config, "max_position_embeddings")
    window = config.get("sliding_window")
    if isinstance(window, int) and config.get("use_sliding_window", True):
        context = min(context, window)  # llama.cpp attends to everything here, which is the same up to the window
    writer.add_context_length(context)
    writer.add_block_count(number(config, "num_hidden_layers"))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(number(config, "intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(number(config, "num_key_value_heads", heads))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(number(config, "vocab_size"))
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    # transformers 4 has rope_theta and rope_scaling, transformers 5 both in rope_parameters
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    theta = float(rope.get("rope_theta", config.get("rope_theta", 10000.0)))
    writer.add_rope_freq_base(theta)
    kind = rope.get("rope_type", rope.get("type", "default"))
    try:
        if kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(rope["factor"]))
        elif kind == "llama3" and architecture(config) is gguf.MODEL_ARCH.LLAMA:
            factors = _llama3_factors(rope, theta, head)
            return [Piece("rope_freqs.weight", factors.shape, Kind.F32, lambda: factors)]
    except KeyError as error:
        raise ModelError(f"the rotary scaling {kind!r} in config.json has no {error}. Get it again.") from None
    if kind not in ("default", "linear"):
        raise ModelError(f"rotary scaling of type {kind!r} (config.json, rope_type) cannot be written as GGUF for "
                         f"{config['model_type']}. Take a base without it.")
    return []


def _llama3_factors(rope: Mapping[str, Any], theta: float, head: int) -> np.ndarray:
    """What each of the head/2 frequencies is divided by (transformers' `_compute_llama3_parameters`)."""
    wavelength = 2 * math.pi * theta ** (np.arange(0, head, 2) / head)
    low, high, factor = (float(rope[key]) for key in ("low_freq_factor", "high_freq_factor", "factor"))
    turns = float(rope["original_max_position_embeddings"]) / wavelength
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - smooth) / factor + smooth), np.float32)


# ── the tokenizer ───────────────────────────────────────────────────────────────────────────────────────────


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, tokenizer: Mapping[str, Any], words: int) -> None:
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece-style BPE" if model.get("type") == "BPE" else str(model.get("type"))
        raise ModelError(f"the vocabulary in {folder}/tokenizer.json is {kind}; only byte-level BPE can be "
                         "written as GGUF. Take another base.")
    try:
        reader = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # noqa: BLE001  # the library raises a bare Exception
        raise ModelError(f"{folder}/tokenizer.json cannot be read ({error}). Get the file again.") from None
    tokens, types = [f"[PAD{token}]" for token in range(words)], [gguf.TokenType.UNUSED] * words
    known = [(text, token, gguf.TokenType.NORMAL) for text, token in model["vocab"].items()]
    for item in tokenizer.get("added_tokens") or ():
        kind = gguf.TokenType.CONTROL if item["special"] else gguf.TokenType.USER_DEFINED
        known.append((item["content"], item["id"], kind))
    for text, token, kind in known:
        if token >= words:
            raise ModelError(f"{folder}/tokenizer.json has a token {token} ({text!r}), but config.json says "
                             f"vocab_size = {words}. They do not belong together; copy both from one source.")
        tokens[token], types[token] = text, kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer, folder))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=words)
    special.chat_template = None
    special.add_special_token = _added_ends(folder, reader, special.special_token_ids)
    special.add_to_gguf(writer, quiet=True)


def _pre_tokenizer(tokenizer: Mapping[str, Any], folder: Path) -> str:
    """llama.cpp's name for what tokenizer.json does to a text before its merges."""
    found = ", ".join([*_steps(tokenizer.get("normalizer")), *_steps(tokenizer.get("pre_tokenizer")),
                       *(["whole words first"] if tokenizer["model"].get("ignore_merges") else [])])
    if found not in _PRE_TOKENIZERS:
        known = ", ".join(sorted(set(_PRE_TOKENIZERS.values())))
        raise ModelError(f"the pre-tokenizer in {folder}/tokenizer.json is none of the known ones ({known}): "
                         f"{found or 'it is empty'}. Convert this model with llama.cpp's own script.")
    return _PRE_TOKENIZERS[found]


def _steps(part: Mapping[str, Any] | None) -> list[str]:
    """A normalizer or pre-tokenizer of tokenizer.json in words, as `_PRE_TOKENIZERS` has them."""
    match part:
        case None:
            return []
        case {"type": "Sequence", "normalizers": parts} | {"type": "Sequence", "pretokenizers": parts}:
            return [step for inner in parts for step in _steps(inner)]
        case {"type": "NFC"}:
            return ["NFC"]
        case {"type": "Digits", "individual_digits": True}:
            return ["digits one by one"]
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return [f"split {pattern}"]
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ["bytes after GPT-2's pattern" if part.get("use_regex", True) else "bytes"]
    return [json.dumps(part, ensure_ascii=False)]


def _added_ends(folder: Path, tokenizer: Tokenizer, special: Mapping[str, int]) -> dict[str, bool]:
    """Whether the tokenizer puts `bos` before and `eos` after a text. llama.cpp guesses by family unless told."""
    bare, full = tokenizer.encode("a", add_special_tokens=False).ids, tokenizer.encode("a").ids
    ends = {"bos": full[:1] != bare[:1], "eos": full[-1:] != bare[-1:]}
    expected = [special.get("bos")] * ends["bos"] + bare + [special.get("eos")] * ends["eos"]
    if full != expected:
        raise ModelError(f"the tokenizer in {folder} turns 'a' into the tokens {full}, which are not {bare} "
                         f"between the beginning and the end token ({dict(special)}). Take another base.")
    config = read_json(folder, "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    for end in ends:  # transformers lets these win over tokenizer.json
        if isinstance(config.get(f"add_{end}_token"), bool) and end in special:
            ends[end] = config[f"add_{end}_token"]
    return ends


# ── the weights ─────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _weights(folder: Path) -> Iterator[dict[str, Any]]:
    """{tensor name: the open file that holds it}, from one file or from the shards that the index names."""
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif (folder / "model.safetensors.index.json").is_file():
        files = sorted(set(read_json(folder, "model.safetensors.index.json").get("weight_map", {}).values()))
    else:
        pickles = sorted({*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")})
        hint = f" The pickle there, {pickles[0].name}, is not opened: it can run code." if pickles else ""
        raise ModelError(f"model.safetensors is missing in {folder}.{hint} {_COPY}")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_safetensors(folder / file)) for file in files]
        yield {name: file for file in opened for name in file.keys()}  # noqa: SIM118  # the file is no mapping


def _pieces(config: Mapping[str, Any], weights: Mapping[str, Any]) -> list[Piece]:
    """Every tensor of the model, under llama.cpp's names. Raises `ModelError` for one too many or too few."""
    layers = number(config, "num_hidden_layers")
    tied = bool(config.get("tie_word_embeddings", False))
    missing = sorted(_required(config["model_type"], layers, tied) - set(weights))
    if missing:
        raise ModelError(f"the weights have no tensor {missing[0]} ({len(missing)} missing), which config.json "
                         "calls for. The folder is incomplete or mixed; get all its files from one source.")
    names = gguf.get_tensor_name_map(architecture(config), layers)
    pieces = []
    for source, file in weights.items():
        if source.endswith("rotary_emb.inv_freq") or (tied and source == "lm_head.weight"):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        kind = file.get_slice(source).get_dtype()
        if name is None or kind not in ("BF16", "F16", "F32"):
            raise ModelError(f"the tensor {source} ({kind}) has no place in the GGUF of a {config['model_type']} "
                             f"model with {layers} layers. Give the plain model in 16 or 32 bits, not quantised.")
        pieces.append(_piece(config, name, source, file))
    return pieces


def _piece(config: Mapping[str, Any], name: str, source: str, file: Any) -> Piece:
    shape = tuple(file.get_slice(source).get_shape())
    heads = rotation_heads(config, source.rpartition(".")[0])

    def load() -> np.ndarray:
        tensor = file.get_tensor(source)
        if heads:
            tensor = for_llama_rotation(tensor, heads)
        if len(shape) == 1:
            return tensor.float().numpy()  # type: ignore[no-any-return]
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy()  # type: ignore[no-any-return]

    return Piece(name, shape, Kind.F32 if len(shape) == 1 else Kind.BF16, load)


def _required(kind: str, layers: int, tied: bool) -> set[str]:
    modules = ["input_layernorm", "post_attention_layernorm", *(f"self_attn.{part}_proj" for part in "qkvo"),
               *(f"mlp.{part}_proj" for part in ("gate", "up", "down"))]
    if kind == "qwen3":
        modules += ["self_attn.q_norm", "self_attn.k_norm"]
    names = {f"model.layers.{layer}.{module}.weight" for layer in range(layers) for module in modules}
    if kind == "qwen2":
        names |= {f"model.layers.{layer}.self_attn.{part}_proj.bias" for layer in range(layers) for part in "qkv"}
    return names | {"model.embed_tokens.weight", "model.norm.weight"} | (set() if tied else {"lm_head.weight"})
