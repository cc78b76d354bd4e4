"""Reckoning for machines that are not at hand: published figures, shapes, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.config import resolve
from rostok.errors import ConfigError
from rostok.estimate.predict import books, predict
from rostok.estimate.published import MACHINES, TRAINING
from rostok.estimate.reckon import any_machine, find_machine, flops_per_token, reckon, shape_of, share_of
from rostok.estimate.seeds import seconds_of_seed
from rostok.estimate.shape import shape_of_base

SETTINGS = resolve()


@pytest.mark.parametrize(("text", "name", "memory"), [
    ("RTX 4090, 24 GB", "RTX 4090", 24), ("nvidia geforce rtx4090", "RTX 4090", 24), ("A100, 40GB", "A100", 40),
    ("h100", "H100", 80)])
def test_a_machine_is_found_as_people_write_it(text: str, name: str, memory: float) -> None:
    """Prevents: a machine that is refused for a space or a maker's name."""
    found = find_machine(text)
    assert (found.name, found.memory_gb) == (name, memory)


@pytest.mark.parametrize(("call", "reason"), [
    (lambda: find_machine("RTX 4091"), "did you mean 'RTX 4090'"),
    (lambda: find_machine("abacus"), "no figures of 'abacus'"),
    (lambda: find_machine("RTX 4090, much"), "'much' is no size"),
    (lambda: find_machine("RTX 4090", memory_gb=0), "above 0"),
    (lambda: any_machine(-1, 24), "--flops must be above 0"),
    (lambda: any_machine(float("nan"), 24), "--flops must be above 0"),
    (lambda: any_machine(1e12, 0), "--memory must be above 0")])
def test_what_cannot_be_reckoned_is_refused(call: object, reason: str) -> None:
    """Prevents: an estimate for a machine that nobody has figures of."""
    with pytest.raises(ConfigError, match=reason):
        call()  # type: ignore[operator]


def test_published_runs_fit_their_machines() -> None:
    """Prevents: a misread row: a run that is told to be faster than its machine, or a machine that has no figures."""
    names = {machine.name for machine in MACHINES}
    for row in TRAINING:
        assert row.machine in names
        assert row.source.startswith("https://")
        assert 0.02 < share_of(row) < 0.7


@pytest.mark.parametrize(("machine", "parameters", "tokens_s"), [("RTX 4090", 8.03e9, 2413), ("A100", 7.72e9, 2341)])
def test_a_published_run_is_reckoned_again(machine: str, parameters: float, tokens_s: float) -> None:
    """Prevents: a formula that does not give back what it was found from."""
    settings = resolve(options={"corpus": {"page_characters": 1850}, "training": {"pages_per_step": 8, "rank": 8}})
    pace = reckon(settings, find_machine(machine), shape_of(parameters))
    assert 1 / pace.swarm.token_s == pytest.approx(tokens_s, rel=0.15)


@given(parameters=st.floats(2e7, 2e11), factor=st.floats(1.0, 20), flops=st.floats(1e11, 2e15))
def test_larger_models_and_slower_machines_take_longer(parameters: float, factor: float, flops: float) -> None:
    """Prevents: a sign or a unit mixed up, so that a model ten times larger is told to be faster."""
    machine = any_machine(flops, 80)
    small = predict(SETTINGS, reckon(SETTINGS, machine, shape_of(parameters)))
    large = predict(SETTINGS, reckon(SETTINGS, machine, shape_of(parameters * factor)))
    slow = predict(SETTINGS, reckon(SETTINGS, any_machine(flops / factor, 80), shape_of(parameters)))
    for other in (large, slow):
        assert all(b.seconds >= a.seconds * (1 - 1e-9) for a, b in zip(small.stages, other.stages, strict=True))
    assert large.memory_mib >= small.memory_mib
    assert large.disk_bytes >= small.disk_bytes


@given(st.floats(2e7, 2e11))
def test_a_shape_has_the_parameters_that_were_asked_for(parameters: float) -> None:
    """Prevents: FLOPs, adapters and memory reckoned for a model of another size."""
    shape = shape_of(parameters)
    assert 12 * shape.layers * shape.width**2 == pytest.approx(parameters, rel=0.15)
    assert flops_per_token(shape, length=150, rank=16) > 4 * parameters


def test_the_embedded_base_is_measured_by_its_file() -> None:
    """Prevents: a base counted without its embedding, or twice with it."""
    shape = shape_of_base("embedded")
    assert shape.parameters == 134_515_008
    assert (shape.layers, shape.width) == (30, 576)


def test_a_hub_model_is_not_fetched_for_a_guess() -> None:
    """Prevents: two gigabytes downloaded in order to say how long something would take."""
    with pytest.raises(ConfigError, match="--parameters"):
        shape_of_base("HuggingFaceTB/SmolLM2-360M-Instruct")


def test_reckoned_says_so_with_its_sources() -> None:
    """Prevents: a reckoned figure that is taken for a measured one."""
    pace = reckon(SETTINGS, find_machine("RTX 4090"), shape_of(1.3e9))
    assert pace.how == "reckoned"
    assert "Nothing was measured" in pace.notes[0]
    assert "github.com/pytorch/torchtune" in pace.notes[0]
    assert pace.spread[0] <= 1 <= pace.spread[1]
    assert len(books(SETTINGS, pace)) == 4


def test_seeds_cost_by_their_size() -> None:
    """Prevents: seeds of twenty nodes told to take as long as those of eight."""
    small, large = (resolve(options={"author": {"nodes": nodes}}) for nodes in (8, 20))
    assert seconds_of_seed(large, 900) == pytest.approx(2.5 * seconds_of_seed(small, 900))
    assert seconds_of_seed(small, 450) == pytest.approx(2 * seconds_of_seed(small, 900))
