"""What must be set in the process before heavy libraries are imported: no telemetry, no network unless asked for."""

from __future__ import annotations

import logging
import os
import warnings

_QUIET = {
    "ANONYMIZED_TELEMETRY": "False",          # chromadb
    "HF_HUB_DISABLE_TELEMETRY": "1",          # huggingface_hub, transformers
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",        # its threads fight torch's for the same cores
    "LANGGRAPH_STRICT_MSGPACK": "true",       # checkpoints hold plain values only, never pickled objects
    "THP_MEM_ALLOC_ENABLE": "1",              # torch's large tensors in pages of 2 MB: training 850 -> 1,030 tokens/s
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
# What people say to a run goes nowhere, also where a shell's profile asks langchain-core, on which langgraph builds, to trace.
_NEVER = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")


def prepare(*, allow_network: bool = False) -> None:
    """Set the environment of this process. A value that the user has set already stays, but for tracing, which is off.

    Args:
        allow_network: let huggingface_hub download; only when the user named a hub model.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.update(dict.fromkeys(_NEVER, "false"))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses an optional kernel package on every start
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\..*")
    offline = "0" if allow_network else "1"
    os.environ.setdefault("HF_HUB_OFFLINE", offline)
    os.environ.setdefault("TRANSFORMERS_OFFLINE", offline)
