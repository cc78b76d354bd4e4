"""Merges and splits of a run's experts: what PEFT and llama.cpp make of them, and what the registry says."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rostok.engines.export_gguf import export_base
from rostok.errors import DataError, RunError
from rostok.models import Base
from rostok.records import file_digest, read_jsonl, read_record, write_atomic
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.seeds.record import Seed
from rostok.swarm import lowrank, registry, school
from rostok.swarm.adapters import read_adapter
from rostok.swarm.records import Expert, Splice
from rostok.swarm.splice import Merge, merge, split

TEXT = np.random.default_rng(1).integers(20, 49000, 48).tolist()


def experts(run: Run) -> list[Expert]:
    return read_jsonl(run.registry, Expert)


def log_probabilities(base: Base, *folders: Path) -> torch.Tensor:
    """(position, word), of the base in float32 with the adapters merged into it one after the other."""
    model: Any = AutoModelForCausalLM.from_pretrained(base.source, dtype=torch.float32)
    for folder in folders:
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    with torch.no_grad():
        return model(torch.tensor([TEXT])).logits[0].log_softmax(-1)  # type: ignore[no-any-return]


def test_a_merge_says_what_both_say_together(run: Run, base: Base) -> None:
    """Prevents: a rank, an alpha or rsLoRA's scale of a parent that is forgotten in the sum."""
    one, two = experts(run)
    made = merge(run, (one.seed, two.id), base, Merge())
    assert (made.rank, made.kept) == (10, 1.0)
    both = log_probabilities(base, run.experts / one.seed, run.experts / two.seed)
    assert (log_probabilities(base, run.experts / made.name) - both).abs().max() < 1e-3
    assert (log_probabilities(base, run.experts / one.seed) - both).abs().max() > 1


def test_two_parts_say_together_what_the_whole_says(run: Run, base: Base) -> None:
    """Prevents: a split that loses something, or whose first part is not the stronger one."""
    whole = experts(run)[1]
    leading, trailing = split(run, whole.seed, base, 2)
    assert (leading.rank, trailing.rank) == (2, 4)
    assert leading.kept / 2 > trailing.kept / 4 and leading.kept + trailing.kept == pytest.approx(1, abs=1e-5)
    both = log_probabilities(base, run.experts / leading.name, run.experts / trailing.name)
    assert (both - log_probabilities(base, run.experts / whole.seed)).abs().max() < 1e-3
    back = merge(run, (leading.name, trailing.name), base, Merge())
    assert (log_probabilities(base, run.experts / back.name) - both).abs().max() < 1e-3


def test_llamacpp_says_what_peft_says(run: Run, base: Base, tmp_path: Path) -> None:
    """Prevents: a spliced adapter.gguf with another scale, or with the parents' order of rows applied twice."""
    one, two = experts(run)
    made = merge(run, (one.seed, two.seed), base, Merge(rank=6))
    export_base(base.source, tmp_path / "base.gguf")
    model = llama_cpp.Llama(str(tmp_path / "base.gguf"), lora_path=str(run.experts / made.name / "adapter.gguf"), n_ctx=256,
                            logits_all=True, verbose=False, n_threads=1, n_threads_batch=1)
    model.eval(TEXT)
    ours = torch.tensor(np.array(model.scores[: len(TEXT)])).log_softmax(-1)
    model.close()
    theirs, plain = log_probabilities(base, run.experts / made.name), log_probabilities(base)
    assert (ours - theirs).std() < 0.06
    assert (plain - theirs).std() > 0.3


def test_what_both_began_from_is_in_the_sum_once(schooled: Run, base: Base) -> None:
    """Prevents: a school that a merge has twice, so that its forms drown both seeds; and one added to a merge once more."""
    one, two = experts(schooled)
    begun = read_adapter(school.folder(schooled))
    made = merge(schooled, (one.seed, two.seed), base, Merge(weights=(1.0, 0.5)))
    assert (made.rank, made.school_sha256) == (4 + 6 + 3, one.school_sha256)
    parts = [registry.read(schooled, expert, base) for expert in (one, two)]
    wanted = lowrank.add([*parts, begun], (1.0, 0.5, -0.5))
    for module, (a, b) in registry.read(schooled, made.expert(), base).pairs.items():
        assert torch.allclose(b @ a, wanted.pairs[module][1] @ wanted.pairs[module][0], atol=1e-4)
    again = merge(schooled, (made.name, one.seed), base, Merge())
    more = lowrank.add([registry.read(schooled, made.expert(), base), parts[0], begun], (1.0, 1.0, -1.0))
    for module, (a, b) in registry.read(schooled, again.expert(), base).pairs.items():
        assert torch.allclose(b @ a, more.pairs[module][1] @ more.pairs[module][0], atol=1e-4)


def test_a_merge_without_its_school_is_refused(schooled: Run, base: Base) -> None:
    """Prevents: a sum with the school twice, because its folder is gone."""
    one, two = experts(schooled)
    shutil.rmtree(schooled.school)
    before = sorted(path.name for path in schooled.experts.iterdir())
    with pytest.raises(DataError, match="the school that all experts begin from is not in"):
        merge(schooled, (one.seed, two.seed), base, Merge())
    assert sorted(path.name for path in schooled.experts.iterdir()) == before


@pytest.mark.parametrize(("rank", "alpha"), [(3, 6), (8, 16), (3, 3), (2, 8)])
def test_a_start_of_any_rank_says_what_the_school_says(schooled: Run, rank: int, alpha: int) -> None:
    """Prevents: a yardstick of a higher rank that begins from nothing, or from the school at another scale."""
    settings = schooled.read().settings
    start = school.start(schooled, settings, settings.training.model_copy(update={"rank": rank, "alpha": alpha}))
    assert start is not None
    begun = read_adapter(school.folder(schooled))
    wanted = begun if rank >= 3 else lowrank.cut(begun, 0, rank)[0]
    for module, (a, b) in wanted.pairs.items():
        a_name, b_name = (f"base_model.model.{module}.lora_{half}.weight" for half in "AB")
        assert start.tensors[a_name].shape[0] == rank
        assert torch.allclose(start.tensors[b_name] @ start.tensors[a_name] * alpha / rank, b @ a, atol=1e-5)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_a_thinned_merge_keeps_the_school_whole(schooled: Run, base: Base, method: Any) -> None:
    """Prevents: TIES or DARE that thin the school with what the experts have learned."""
    one, two = experts(schooled)
    made = merge(schooled, (one.seed, two.seed), base, Merge(method=method, rank=20, weights=(1e-6, 1e-6)))
    begun = read_adapter(school.folder(schooled))
    for module, (a, b) in registry.read(schooled, made.expert(), base).pairs.items():
        assert torch.allclose(b @ a, begun.pairs[module][1] @ begun.pairs[module][0], atol=1e-3)


def test_weights_that_hold_the_school_once_add_no_rank(schooled: Run, base: Base) -> None:
    """Prevents: directions of nothing but zeros in a merge of halves, and a yardstick of that rank."""
    one, two = experts(schooled)
    assert merge(schooled, (one.seed, two.seed), base, Merge(weights=(0.5, 0.5))).rank == 4 + 6


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_thinned_merges_have_the_rank_asked_for(run: Run, base: Base, method: Any) -> None:
    """Prevents: an option that is accepted and does nothing."""
    one, two = experts(run)
    told: list[int] = []
    made = merge(run, (one.seed, two.seed), base, Merge(method=method, rank=12, density=0.3), told.append)
    assert (made.rank, made.density, made.kept < 1) == (12, 0.3, True)
    assert told == [14] * 14
    exact = merge(run, (one.seed, two.seed), base, Merge(rank=9))
    assert exact.name != made.name
    assert registry.read(run, made.expert(), base).rank == 12


def test_the_registry_knows_where_a_splice_comes_from(run: Run, base: Base) -> None:
    """Prevents: a splice that nobody finds, or whose parents nobody can name."""
    one, two = experts(run)
    first = merge(run, (one.seed, two.seed), base, Merge())
    half, _ = split(run, first.name, base)
    line = experts(run)[2]
    assert (line.operator, line.parents, line.seeds) == ("merge", (one.id, two.id), (one.seed, two.seed))
    assert line.adapter_sha256 == file_digest(run.experts / first.name / "adapter_model.safetensors")
    assert line.gguf_sha256 == file_digest(run.experts / first.name / "adapter.gguf")
    assert experts(run)[3].parents == (line.id,) and experts(run)[3].seeds == (one.seed, two.seed)
    for name in (half.name, half.name[:6], half.expert().id, half.title.upper(), half.adapter_sha256[:8]):
        assert registry.find(run, name).seed == half.name
    assert not list(run.experts.glob("*.part"))


def test_what_is_there_is_not_made_again(run: Run, base: Base) -> None:
    """Prevents: a second line for the same splice, and one that a kill left unregistered and unfindable."""
    one, two = experts(run)
    grown = run.registry.read_bytes()
    made = merge(run, (one.seed, two.seed), base, Merge())
    stamp = (run.experts / made.name / "splice.json").stat().st_mtime_ns
    whole = run.registry.read_bytes()
    assert merge(run, (one.id, two.title), base, Merge()) == made and run.registry.read_bytes() == whole
    for broken in (grown, whole[:-40]):  # killed before, and while, the line was written; or training wrote its own
        run.registry.write_bytes(broken)
        registry.write(run, Library(run.seeds).seeds(), base)
        assert run.registry.read_bytes() == whole
    assert (run.experts / made.name / "splice.json").stat().st_mtime_ns == stamp
    (run.experts / made.name / "adapter.gguf").write_bytes(b"rotten")
    assert merge(run, (one.seed, two.seed), base, Merge()) == made
    assert file_digest(run.experts / made.name / "adapter.gguf") == made.gguf_sha256


def _merge_for_ever(run: Run, base: Base, names: tuple[str, str]) -> None:
    for number in range(1, 10_000):
        merge(run, names, base, Merge(weights=(1.0, number / 8)))


def test_a_kill_leaves_whole_splices_only(run: Run, base: Base) -> None:
    """Prevents: a splice without its GGUF that is served, or a half-built one that stops the next from being built."""
    names = tuple(expert.seed for expert in experts(run))
    assert len(names) == 2
    for count in (1, 3, 6):
        worker = multiprocessing.get_context("fork").Process(target=_merge_for_ever, args=(run, base, names))
        worker.start()
        deadline = time.monotonic() + 60
        while not (len(list(run.experts.glob("x-*/splice.json"))) >= count and list(run.experts.glob("*.part"))):
            assert worker.is_alive() and time.monotonic() < deadline
        worker.kill()
        worker.join()
        for folder in (path for path in run.experts.glob("x-*") if path.suffix != ".part"):
            splice = read_record(folder / "splice.json", Splice)
            assert registry.read(run, splice.expert(), base).rank == 10
            assert file_digest(folder / "adapter.gguf") == splice.gguf_sha256
    registry.write(run, Library(run.seeds).seeds(), base)
    made = [merge(run, names, base, Merge(weights=(1.0, number / 8))).name for number in range(1, 9)]
    assert sorted(expert.seed for expert in experts(run) if expert.operator and expert.seed in made) == sorted(made)
    assert len({expert.seed for expert in experts(run)}) == len(experts(run))


def test_the_order_and_the_options_make_the_name(run: Run, base: Base) -> None:
    """Prevents: a splice with other weights that is taken for the one that is there."""
    one, two = experts(run)
    names = {merge(run, pair, base, how).name for pair, how in (
        ((one.seed, two.seed), Merge()), ((two.seed, one.seed), Merge()), ((one.seed, two.seed), Merge(weights=(0.5, 1.0))),
        ((one.seed, two.seed), Merge(rank=4)), ((one.seed, two.seed), Merge(method="dare", rank=4)),
        ((one.seed, two.seed), Merge(method="dare", rank=4, random_seed=8)))}
    assert len(names) == 6
    assert all(read_record(run.experts / name / "splice.json", Splice).name == name for name in names)


def test_an_expert_wider_than_a_layer_is_not_split(run: Run, base: Base, make_seed: Callable[..., Seed],
                                                   add_expert: Callable[..., Expert]) -> None:
    """Prevents: directions counted that a narrow layer does not have."""
    wide, flat = add_expert(run, make_seed(2), 2, r=40), add_expert(run, make_seed(3), 3, r=1)
    with pytest.raises(RunError, match="rank 40, above the width 32 of .*k_proj"):
        split(run, wide.seed, base)
    with pytest.raises(RunError, match="one direction only"):
        split(run, flat.seed, base)


def test_a_name_outside_of_the_run_is_refused(run: Run, base: Base) -> None:
    """Prevents: a stranger's registry that has a file elsewhere read or written over."""
    line = experts(run)[0]
    for changes in ({"seed": "../../etc"}, {"seed": "s-../x", "operator": "merge", "of_seeds": (line.seed,)}):
        write_atomic(run.registry, line.model_copy(update=changes).line() + "\n")
        with pytest.raises(Exception, match="no name of an expert"):
            registry.read(run, registry.find(run, line.id), base)
