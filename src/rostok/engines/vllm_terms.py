"""What the engine protocol asks, in vLLM's own terms: its settings, its sampling, its adapters, its refusals.

vLLM is imported inside the functions: its settings are variables of the environment, which must be set before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rostok.engines.peft_adapter import Scaled
from rostok.engines.protocol import Request
from rostok.engines.schema import check
from rostok.errors import GrammarError, ModelError

DRY_PENALTY = 1.1  # the repetition penalty that stands for DRY, which vLLM does not have
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # vLLM knows no others
_LOADED = 128  # adapters kept in memory; more are read again from their copies
_PASS = 4096   # tokens of one step on a CPU
_BLOCK = 128   # tokens of one block of vLLM's cache on a CPU
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>")  # of a turn, in any family
_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")  # of an error in xgrammar's source


def start(folder: Path, config: Mapping[str, Any], *, context: int, sequences: int, adapters: int, rank: int,
          targets: Sequence[str], gpu_memory: float) -> Any:
    """vLLM's LLMEngine in this thread. The arguments are those of `rostok.engines.vllm.VllmEngine`.

    Args:
        config: config.json of the model.
        targets: names of the modules that an adapter may change.

    Raises:
        ModelError: vLLM is not installed, or the model reads fewer tokens, or adapters of a lower rank.
        Exception: whatever vLLM raises for a model that it cannot load.
    """
    own = int(config.get("max_position_embeddings", context))
    if context > own:
        raise ModelError(f"the model in {folder} reads {own} tokens, not {context}. Lower models.context.")
    if rank > _RANKS[-1]:
        raise ModelError(f"vLLM takes adapters up to rank {_RANKS[-1]}, not {rank}. Train them with a lower rank.")
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "CRITICAL")  # an error reaches its caller; vLLM dumps its settings with it
    try:
        with _undisturbed():
            from vllm import EngineArgs, LLMEngine
            from vllm.platforms import current_platform

            if current_platform.is_cpu():
                current_platform.get_punica_wrapper = lambda: "rostok.engines.vllm_cpu_lora.GroupedAdapters"
                on_device = _on_cpu(config, context, sequences)
            else:
                on_device = {"gpu_memory_utilization": gpu_memory}  # not run here
            return LLMEngine.from_engine_args(EngineArgs(
                model=str(folder), load_format="safetensors", trust_remote_code=False, use_tqdm_on_load=False,
                max_model_len=context, max_num_seqs=sequences, enable_prefix_caching=True, disable_log_stats=True,
                enable_lora=adapters > 0, max_loras=max(adapters, 1), max_cpu_loras=max(adapters, _LOADED),
                max_lora_rank=next(known for known in _RANKS if known >= rank), lora_target_modules=list(targets),
                # one backend for all requests: with "auto" the first request's choice would serve later ones too
                structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True}, **on_device))
    except ImportError as error:
        raise ModelError(f"vLLM is not installed ({error}). Get it with: pip install 'rostok[vllm]', or see "
                         "`make test-vllm` for a machine without a GPU.") from None


def stop(engine: Any, *, last: bool) -> None:
    """Let an LLMEngine go. Shutting it down ends the process groups of all engines, so that only the last may do it."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    if last:
        engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()
    else:
        engine.engine_core._finalizer.detach()


def sampling_params(request: Request, ends: Sequence[int], *, streamed: bool) -> Any:
    """A request as vLLM's SamplingParams.

    Args:
        ends: tokens that end a turn; see `turn_ends`.
        streamed: whether the text is wanted in pieces.

    Raises:
        GrammarError: a schema that no grammar can keep; or grammar and schema both.
        ModelError: a number that vLLM does not take.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling, form = request.sampling, None
    if request.schema is not None and request.grammar is not None:
        raise GrammarError("a request has a grammar or a JSON schema, not both.")
    if request.schema is not None:
        check(request.schema)
        form = StructuredOutputsParams(json=dict(request.schema))
    elif request.grammar is not None:
        if "::=" not in request.grammar:  # vLLM would read it as another language
            raise GrammarError("the grammar cannot be compiled: it has no rule. Write GBNF, beginning with 'root ::='.")
        form = StructuredOutputsParams(grammar=request.grammar)
    penalty = sampling.repetition_penalty
    if sampling.dry > 0 and penalty == 1.0:
        penalty = DRY_PENALTY
    try:
        return SamplingParams(
            max_tokens=sampling.max_tokens, temperature=sampling.temperature, min_p=sampling.min_p, top_p=sampling.top_p,
            repetition_penalty=penalty, stop=list(sampling.stop), stop_token_ids=list(ends), structured_outputs=form,
            seed=request.seed & (2**63 - 1), logprobs=0 if request.logprobs else None,
            output_kind=RequestOutputKind.DELTA if streamed else RequestOutputKind.FINAL_ONLY)
    except (ValueError, VLLMValidationError) as error:
        raise ModelError(f"vLLM refuses the request: {brief(error)}.") from None


def scoring_params() -> Any:
    """SamplingParams that give the log-probability of every token of the prompt, and draw one token, which vLLM must."""
    from vllm import SamplingParams

    return SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)


def turn_ends(tokenizer: Any) -> list[int]:
    """The tokens of this vocabulary that end a turn. vLLM itself stops only at those that the folder names."""
    words = tokenizer.get_vocab()
    return [words[text] for text in _ENDS if text in words]


def lora_request(adapter: Scaled) -> Any:
    """vLLM's cache of prefixes knows an adapter by its name alone (vllm-project/vllm#42125), hence a label per version."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.label, adapter.id, str(adapter.folder))


def refusal(request: Request, reason: object) -> ModelError:
    """The error for a request that vLLM did not take, or gave up."""
    if request.schema is not None:
        return GrammarError(f"the JSON schema cannot be made into a grammar: {brief(reason)}. Mend or simplify it.")
    if request.grammar is not None:
        return GrammarError(f"the grammar cannot be compiled: {brief(reason)}. Mend or simplify it.")
    return ModelError(f"vLLM refuses the request: {brief(reason)}.")


def brief(reason: object) -> str:
    """What vLLM says, and the cause where it names one, in a line."""
    parts = [part for part in (reason, getattr(reason, "__cause__", None)) if part]
    said = [_PLACE.sub("", " ".join(str(part).split())).rstrip(".") for part in parts]
    if len(said) == 2 and said[1] in said[0]:
        said.pop()
    return ": ".join(part for part in said if part)[:300] or type(reason).__name__


def _on_cpu(config: Mapping[str, Any], context: int, sequences: int) -> dict[str, Any]:
    """Settings without a GPU. Compiling would gain a tenth, takes longer to start, and does not go with adapters."""
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    token = 2 * 2 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * width  # bytes: K and V in bf16
    blocks = sequences * -(-context // _BLOCK) + 2
    return {
        "enforce_eager": True, "kv_cache_memory_bytes": blocks * _BLOCK * token,
        # a prompt that is computed in two parts crashes a request's own random generator on the CPU
        "enable_chunked_prefill": False, "max_num_batched_tokens": max(_PASS, context),
    }


@contextmanager
def _undisturbed() -> Iterator[None]:
    """vLLM's start leaves two traces in a process that others use too: libraries to preload, and torch's threads frozen."""
    import torch

    threads, preload = torch.set_num_threads, os.environ.get("LD_PRELOAD")
    try:
        yield
    finally:
        torch.set_num_threads = threads
        os.environ.pop("LD_PRELOAD", None)
        if preload is not None:
            os.environ["LD_PRELOAD"] = preload
