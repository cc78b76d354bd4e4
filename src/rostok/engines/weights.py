"""In which number format llama.cpp is to run the base on this machine: measured once, kept beside the conversions.

Nobody can tell from a table: on two AVX512-BF16 cores SmolLM2-135M prefills 540 tokens/s as the shipped Q4_1 and 1,640 as
BF16; without those instructions BF16 loses. Formats that would throw away precision are not tried.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import llama_cpp as ll
from pydantic import ValidationError

from rostok.engines.context import Context
from rostok.engines.log import keep_log, last_log
from rostok.errors import ModelError, writing
from rostok.machine import available_memory, processor, usable_cores
from rostok.records import Record, write_atomic

SHIPPED = "shipped"
_FORMS = {"BF16": (ll.LLAMA_FTYPE_MOSTLY_BF16, 16.0), "Q8_0": (ll.LLAMA_FTYPE_MOSTLY_Q8_0, 8.5)}  # name: (code, bits a weight)
_MEMORY_SHARE = 0.25  # of what is free: a form whose file would be larger is not tried
_PROMPT, _NEW = 40, 160  # tokens of a typical page, its shared prefix left out: by these the two speeds are weighed
_SEQUENCES, _ROUNDS = 16, 3


class Speed(Record):
    """What one form does here, in tokens per second: prompts computed, and words drawn by sixteen sequences together."""

    form: str
    prefill: float
    decode: float

    @property
    def page(self) -> float:
        """Seconds that one typical page takes."""
        return _PROMPT / self.prefill + _NEW / self.decode


class Measured(Record):
    """The comparison. It holds for this file, this processor, these cores and this build of llama.cpp.

    Attributes:
        chosen: the form whose pages are done first.
        gpu: whether llama.cpp was built for a GPU; then the shipped form is taken and nothing was measured. Not run here.
    """

    processor: str
    cores: int
    llama_cpp: str
    gpu: bool
    speeds: tuple[Speed, ...]
    chosen: str


def choose(source: Path, folder: Path, *, again: bool = False, tell: Callable[[str], None] = lambda text: None) -> Path:
    """The file to serve: `source`, or its faster form in `folder`, converted and measured at the first call.

    Args:
        source: a GGUF file.
        folder: where conversions and the comparison (`weights.json`) are kept.
        again: whether to measure even if that was done before.
        tell: called with a sentence before something that takes seconds.

    Raises:
        ModelError: llama.cpp cannot read the source.
        StorageError: the disk refused a conversion.
    """
    known = None if again else measured(folder)
    if known is None:
        known = _measure(source, folder, tell)
    return source if known.chosen == SHIPPED else _converted(source, folder, known.chosen)


def measured(folder: Path) -> Measured | None:
    """The comparison in this folder, if there is one that holds for this machine."""
    with suppress(OSError, ValidationError):
        kept = Measured.model_validate_json((folder / "weights.json").read_text(encoding="utf-8"))
        if (kept.processor, kept.cores, kept.llama_cpp) == (processor(), usable_cores(), ll.__version__):
            return kept
    return None


def _measure(source: Path, folder: Path, tell: Callable[[str], None]) -> Measured:
    gpu = bool(ll.llama_supports_gpu_offload())
    speeds: dict[str, Speed] = {}
    if not gpu:
        tell(f"measuring in which number format {source.stem} runs fastest here (once, some seconds)")
        files = {SHIPPED: source}
        parameters = _parameters(source)
        for form, (_, bits) in _FORMS.items():
            if parameters * bits / 8 < _MEMORY_SHARE * available_memory():
                files[form] = _converted(source, folder, form)
        for _ in range(_ROUNDS):  # in turns, and the best of each: a neighbour that was busy for a while decides nothing
            for form, file in files.items():
                fresh, old = _speed(form, file), speeds.get(form)
                speeds[form] = fresh if old is None else Speed(
                    form=form, prefill=max(old.prefill, fresh.prefill), decode=max(old.decode, fresh.decode))
    chosen = min(speeds.values(), key=lambda speed: speed.page).form if speeds else SHIPPED
    result = Measured(processor=processor(), cores=usable_cores(), llama_cpp=ll.__version__, gpu=gpu,
                      speeds=tuple(speeds.values()), chosen=chosen)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "weights.json", result.model_dump_json(indent=1) + "\n")
        for form in _FORMS:
            if form != chosen:
                _file(folder, form).unlink(missing_ok=True)
    return result


def _speed(form: str, file: Path) -> Speed:
    dice = random.Random(0)
    llama = Context(file, sequences=_SEQUENCES, context=256)
    try:
        def words(count: int) -> list[int]:
            return [dice.randrange(llama.words) for _ in range(count)]

        llama.add(words(8), 0, 0)
        llama.decode()  # reads the file, reserves the memory
        llama.clear(0)
        prompt, streams = 8 * _PROMPT // 2, llama.streams
        started = time.perf_counter()
        llama.add(words(prompt), 0, 0)
        llama.decode()
        prefill = prompt / (time.perf_counter() - started)
        llama.clear(0)
        steps, seconds = 8, 0.0
        for step in range(steps):
            for stream in range(streams):
                llama.add(words(1), step, stream, range(1))
            started = time.perf_counter()
            llama.decode()
            llama.logits(streams - 1)  # waits for the result
            seconds += time.perf_counter() - started
        return Speed(form=form, prefill=round(prefill, 1), decode=round(steps * streams / seconds, 1))
    finally:
        llama.close()


def _parameters(source: Path) -> int:
    keep_log()
    model = ll.llama_model_load_from_file(os.fsencode(source), ll.llama_model_default_params())
    if not model:
        raise ModelError(f"{source} cannot be read by llama.cpp: {last_log()}. It may be cut short; get it again.")
    try:
        return int(ll.llama_model_n_params(model))
    finally:
        ll.llama_model_free(model)


def _file(folder: Path, form: str) -> Path:
    return folder / f"{form.lower()}.gguf"


def _converted(source: Path, folder: Path, form: str) -> Path:
    target = _file(folder, form)
    if target.exists():
        return target
    params = ll.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = _FORMS[form][0], True
    keep_log()
    with writing(target):
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}.part")
        code = ll.llama_model_quantize(os.fsencode(source), os.fsencode(partial), params)
        if code != 0:
            partial.unlink(missing_ok=True)
            raise ModelError(f"{source} cannot be read by llama.cpp (code {code}). It may be cut short; get it again.")
        os.replace(partial, target)
    return target
