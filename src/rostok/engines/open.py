"""Open the engine that the settings name, for a base that was found."""

from __future__ import annotations

from collections.abc import Callable

from rostok.config import ModelSettings
from rostok.engines.protocol import Engine
from rostok.errors import ModelError
from rostok.models import Base, serving_file, training_folder


def open_engine(base: Base, settings: ModelSettings, *, sequences: int | None = None,
                tell: Callable[[str], None] = lambda text: None) -> Engine:
    """The base, ready to be asked. Close it, or use it as a context.

    Args:
        sequences: completions in flight at once, where fewer than `models.sequences` are enough.
        tell: called with a sentence before something that takes seconds.

    Raises:
        ModelError: the model cannot be loaded; vLLM is not installed; or `ServerError`: the server does not answer.
    """
    count = settings.sequences if sequences is None else min(sequences, settings.sequences)
    if settings.engine == "server":
        from rostok.engines.server import ServerEngine

        return ServerEngine(settings.server, context=settings.context, parallel=count)
    if settings.engine == "vllm":
        try:
            from rostok.engines.vllm import VllmEngine
        except ImportError as error:
            raise ModelError(f"vLLM is not installed here ({error}). Get it with: pip install 'rostok[vllm]', "
                             "or set models.engine to llama.cpp.") from None
        return VllmEngine(training_folder(base), name=base.name, sequences=count, context=settings.context)
    from rostok.engines.llamacpp import LlamaCppEngine

    return LlamaCppEngine(serving_file(base, tell=tell), sequences=count, context=settings.context, threads=settings.threads)
