"""vLLM as its users run it, on prompts that come as JSON on standard input; one JSON line on standard output.

    .venv-vllm/bin/python bench/vllm_side.py < work.json

`work.json`: {"model": a Hugging Face folder, "prompts": [rendered strings], "max_tokens", "temperature", "min_p", "seed"},
and optionally "engine": {arguments of vllm.LLM that replace the ones below}. `make bench-engine` calls it when `make
test-vllm` has built the environment. Answered: {"tok_s", "tokens", "seconds", "peak_mib", "ttft_ms" (an idle engine),
"ttft_loaded_ms" (median of all prompts at once)}. vLLM's log goes to standard error.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

from rostok.environment import prepare
from rostok.runs import PeakMemory

# The fastest of what was tried on two AVX512-BF16 cores (SmolLM2-135M, 64 prompts, 96 new tokens), in tokens/s. At a load
# below 2: compiled 967 and 973; without compiling 868 and 872, in process 893, passes of 8192 tokens 855. Beside busy
# neighbours, where one setting gave 228 to 909, too noisy to rank: a random seed per request 849, 32 at once 775, passes of
# 2048 702, libiomp5 preloaded 300-597, automatic binding (which keeps a core free) 528, unbound 298, float32 250.
ENGINE: dict[str, Any] = {
    "dtype": "bfloat16", "max_num_seqs": 64, "max_model_len": 1024, "enable_prefix_caching": True, "enforce_eager": False,
    "max_num_batched_tokens": 4096, "kv_cache_memory_bytes": 1 << 30, "disable_log_stats": False,
}
WARM = 8  # prompts of the warm-up


def measure(work: dict[str, Any]) -> dict[str, float | None]:
    """Generate all completions once, after a warm-up, and time them."""
    from vllm import LLM, SamplingParams

    prompts = work["prompts"]
    # The random seed is the engine's: one per request crashes vLLM's CPU build when a prompt is computed in two parts
    # ("CPU Generator does not use offset"), and computing every prompt in one part is slower.
    sampling = SamplingParams(max_tokens=work["max_tokens"], temperature=work["temperature"], min_p=work["min_p"])
    with PeakMemory() as peak:
        llm = LLM(model=work["model"], seed=work["seed"], **{**ENGINE, **work.get("engine", {})})
        llm.generate(prompts[:WARM], sampling, use_tqdm=False)
        started = time.perf_counter()
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        first = SamplingParams(max_tokens=1, temperature=0)
        idle = [_timed(lambda text=text: llm.generate([text], first, use_tqdm=False)) for text in prompts[-5:]]
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    waits = [output.metrics.first_token_latency for output in outputs if output.metrics is not None]
    return {
        "tok_s": round(tokens / seconds, 1), "tokens": tokens, "seconds": round(seconds, 2), "peak_mib": peak.mib,
        "ttft_ms": round(1000 * statistics.median(idle), 1),
        "ttft_loaded_ms": round(1000 * statistics.median(waits), 1) if waits else None,
    }


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Read the work, measure, print."""
    prepare()
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
    work = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM's processes write their logs to standard output
    print(json.dumps(measure(work)), file=answer, flush=True)


if __name__ == "__main__":
    main()
