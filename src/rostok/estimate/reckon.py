"""Reckon the pace of a machine that is not at hand, from FLOP/s, parameters and what others have published.

    reckon(settings, find_machine("RTX 4090, 24 GB"), shape_of(1.3e9))

FLOPs of a trained token are 4N + 6·layers·width·length + 6·P of N frozen and P adapter parameters, of a token that is read
or drawn 2N. How large a part of its FLOP/s a machine reaches is taken from published QLoRA runs (`published.TRAINING`). How
many tokens, pages and refusals there are is taken from runs of the embedded base. Nothing is measured.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from statistics import median

from rostok.config import Settings
from rostok.errors import ConfigError
from rostok.estimate.pace import STRUCTURE, AuthorPace, CorpusPace, EnginePace, MemoryPace, Pace, Peaks, Sizes, SwarmPace
from rostok.estimate.published import MACHINES, TRAINING, Machine, Training
from rostok.estimate.seeds import seconds_of_seed

_LARGE_PASS = 2048      # published passes of at least so many tokens tell the share of FLOP/s
_ENGINE_SHARE = 0.14    # of the FLOP/s that drawing words reaches: make bench-engine on two cores
_PYTHON_S = 66e-6       # of a drawn token in Python and samplers, there too (4% of the time)
_SHORTEST_STEP_S = 2e-3 # of a decoding step, whatever the machine: launching the kernels
_CARD, _PROMPT = 500, 60  # tokens of a seed's card, and of a page's own prompt
_PROBE_TOKENS, _PASSES = 1_600, 2  # of a probe's tree with 12 nodes, and trees for all wordings
_PAGE_TOKENS = 150      # of a page of 550 characters, as an expert reads it
_REFUSED = 0.15         # share of the model's texts that are refused
_MEMORY = (1.1, 2.5e9)  # bytes of training: for each parameter, and besides; between the published rows of 1.8B to 8B

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:gb|gib|g)", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """A language model's size."""

    parameters: float
    layers: int
    width: int
    name: str = ""


def shape_of(parameters: float) -> Shape:
    """The usual shape of a model with so many parameters: N = 12 · layers · width², width = 100 · layers."""
    layers = max(1, round((parameters / 120_000) ** (1 / 3)))
    return Shape(parameters, layers, max(64, round(math.sqrt(parameters / 12 / layers))), f"{_short(parameters)} parameters")


def find_machine(text: str, *, flops: float | None = None, memory_gb: float | None = None) -> Machine:
    """The machine that `text` names, such as `RTX 4090, 24 GB`; other FLOP/s or memory take the place of the published.

    Raises:
        ConfigError: unknown machine, or a figure that is not above 0.
    """
    name, _, rest = text.partition(",")
    if memory_gb is None and rest.strip():
        found = _SIZE.fullmatch(rest.strip())
        if found is None:
            raise ConfigError("--machine takes a name and perhaps its memory, such as 'RTX 4090, 24 GB'; "
                              f"'{rest.strip()}' is no size.")
        memory_gb = float(found[1])
    for given, option in ((flops, "--flops"), (memory_gb, "the memory")):
        if given is not None and not (given > 0 and math.isfinite(given)):
            raise ConfigError(f"{option} must be above 0, not {given:g}.")
    known = {_plain(machine.name): machine for machine in MACHINES}
    machine = known.get(_plain(name))
    if machine is None:
        near = difflib.get_close_matches(_plain(name), list(known), n=1, cutoff=0.6)
        hint = f"; did you mean '{known[near[0]].name}'?" if near else "."
        raise ConfigError(f"--machine: there are no figures of '{name.strip()}'{hint} Known: "
                          f"{', '.join(machine.name for machine in MACHINES)}. Any other with --flops and --memory.")
    return machine.model_copy(update={
        name: value for name, value in (("flops", flops), ("memory_gb", memory_gb)) if value is not None})


def any_machine(flops: float, memory_gb: float) -> Machine:
    """A machine of which only two figures are known. Raises `ConfigError` when one is not above 0."""
    for given, option in ((flops, "--flops"), (memory_gb, "--memory")):
        if not (given > 0 and math.isfinite(given)):
            raise ConfigError(f"{option} must be above 0, not {given:g}.")
    return Machine(name=f"a machine of {_short(flops)}FLOP/s", flops=flops, bandwidth=0, memory_gb=memory_gb, source="")


def flops_per_token(shape: Shape, *, length: float, rank: int) -> float:
    """FLOPs of one trained token: forward and backward through a frozen base and a LoRA adapter, without recomputation."""
    return 4 * shape.parameters + 6 * shape.layers * shape.width * length + 6 * adapter_parameters(shape, rank)


def adapter_parameters(shape: Shape, rank: int) -> float:
    """Parameters of an adapter on all linear layers, of the usual widths (keys a third, middle 2.7 times the width)."""
    return 17.8 * shape.layers * rank * shape.width


def share_of(row: Training) -> float:
    """Which part of its machine's FLOP/s a published run reached."""
    machine = next(machine for machine in MACHINES if machine.name == row.machine)
    return 4 * row.parameters * row.tokens_s / machine.flops


def reckon(settings: Settings, machine: Machine, shape: Shape) -> Pace:
    """The pace of a machine that is not at hand."""
    large = [row for row in TRAINING if row.pass_tokens >= _LARGE_PASS]
    rows = [row for row in large if row.method == "QLoRA"]
    own = [row for row in rows if row.machine == machine.name]
    share = median(share_of(row) for row in own or rows)
    reached = [share_of(row) for row in large]
    launch_s = min(row.pass_tokens / row.tokens_s / row.layers for row in TRAINING if row.pass_tokens < _LARGE_PASS)
    page_tokens = _PAGE_TOKENS * settings.corpus.page_characters / 550
    shares = settings.corpus.shares
    nodes = settings.author.nodes / 12
    flops = machine.flops * share
    # One expert after the other: the fused step was not run on a GPU, where trl trains.
    step_tokens = settings.training.pages_per_step * page_tokens
    train_s = max(flops_per_token(shape, length=page_tokens, rank=settings.training.rank) / flops,
                  launch_s * shape.layers / step_tokens)

    def read_s(tokens: float) -> float:
        return max(2 * shape.parameters * tokens / flops, launch_s * shape.layers / 3)

    reading = 2 * shape.parameters / flops
    engine = EnginePace(
        open_s=3 + 2 * shape.parameters / 1e9, sequences=settings.models.sequences, request_s=_PROMPT * reading,
        step_s=max(_SHORTEST_STEP_S, 2 * shape.parameters / machine.bandwidth if machine.bandwidth else 0.0),
        token_s=2 * shape.parameters / (machine.flops * _ENGINE_SHARE) + _PYTHON_S)
    probe_s = _PASSES * read_s(_PROBE_TOKENS * nodes**2)
    adapter = adapter_parameters(shape, settings.training.rank)
    serving = 2 * shape.parameters + settings.models.sequences * settings.models.context * 4 * shape.layers * shape.width / 3
    training = _MEMORY[0] * shape.parameters + _MEMORY[1] + 16 * adapter
    mib = {"serve": (serving + 1e9) / 2**20, "train": training / 2**20}
    return Pace(
        how="reckoned", machine=f"{machine.name}, {machine.memory_gb:g} GB", model=shape.name, engine=engine,
        author=AuthorPace(fixed_s=engine.open_s + 5, seed_s=seconds_of_seed(settings, engine.rate((150,) * 16)), compare_s=0.004),
        corpus=CorpusPace(
            bank_s=settings.corpus.bank * engine.seconds([25] * round(60 * nodes)), refused=_REFUSED, page_s=0.004,
            by_model=1 - shares.composed - shares.dialogue, lengths=(round(130 * settings.corpus.page_characters / 550),)),
        swarm=SwarmPace(
            load_s=2 + 2 * shape.parameters / 1e9, start_s=8, page_tokens=page_tokens, together=1, step_tokens=step_tokens,
            step_s=0, token_s=train_s, keep_s=2 + 2 * STRUCTURE * probe_s, probe_s=probe_s, read_s=read_s(page_tokens),
            card_s=(1 + STRUCTURE) * _PASSES * read_s(_PROBE_TOKENS * nodes**2 + _CARD),
            general_s=read_s(84 * settings.probes.general),
            ask_s=3 * engine.seconds([28] * (3 * settings.probes.chat_nodes)) + _CARD * reading),
        memory=MemoryPace(fixed_s=8, remember_s=0.012, question_s=0.008, report_s=12 + engine.open_s),
        sizes=Sizes(seed=330_000 * nodes * settings.author.candidates / 3, corpus=40_000, page=1_700, expert=8 * adapter,
                    remembered=10_000, fixed=1e6),
        peaks=Peaks(author=mib["serve"], corpus=mib["serve"], swarm=mib["train"], adapter=0, memory=1_000,
                    remembered=0.004, report=mib["serve"]),
        spread=(share / max(reached), share / min(reached)), room_mib=machine.memory_gb * 1e9 / 2**20,
        notes=_notes(machine, own or rows, share))


def _notes(machine: Machine, rows: list[Training], share: float) -> tuple[str, ...]:
    runs = "; ".join(f"{row.model} {row.method} on {row.machine}, {row.tokens_s:,.0f} tokens/s ({row.source})" for row in rows)
    stated = f"{_short(machine.flops)}FLOP/s" + (f" as stated by its maker ({machine.source})" if machine.source else " as given")
    return (
        f"Nothing was measured: training is reckoned at {share:.0%} of {stated}, which is what published runs reached: {runs}.",
        f"Words are drawn at {_ENGINE_SHARE:.0%} of the FLOP/s, as llama.cpp does on two cores; tokens, pages and refusals are "
        "those of the embedded base. Experts are trained one after the other: the fused step was not run on a GPU.")


def _plain(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", name.casefold()).split()
    return "".join(word for word in words if word not in ("nvidia", "geforce", "gpu", "tensor", "core"))


def _short(number: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if unit != "G" else f"{number / size:.3g} G"
    return f"{number:.3g} "
