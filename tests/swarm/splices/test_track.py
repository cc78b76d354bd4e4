"""Experts in MLflow's store, with the real MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rostok.config import Settings, resolve
from rostok.errors import ConfigError, StorageError
from rostok.records import read_jsonl, read_record, write_atomic
from rostok.runs import Run
from rostok.swarm import track as module
from rostok.swarm.records import Expert, Figures, Measurements
from rostok.swarm.track import check, track, track_all

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")
SETTINGS = resolve(options={"tracking": "mlflow"})


def entries(run: Run) -> list[Any]:
    with module._store(run) as (client, experiment):
        return [(client, entry) for entry in client.search_runs([experiment])]


def finished(run: Run) -> tuple[Path, Figures]:
    folder = run.experts / read_jsonl(run.registry, Expert)[0].seed
    return folder, read_record(folder / "figures.json", Figures)


def test_an_expert_is_tracked_with_settings_curve_files_and_what_it_learned(run: Run) -> None:
    """Prevents: parameters, curves or artefacts that are missing in the store, or that lie outside of the run; and a store that
    knows the loss of every expert and not what it knows."""
    folder, figures = finished(run)
    track(run, folder, figures, SETTINGS)
    [(client, entry)] = entries(run)
    assert entry.info.status == "FINISHED"
    assert entry.data.params["rank"] == "4" and entry.data.params["seed"] == figures.seed
    assert entry.data.metrics["held_out_loss_after"] == 1.0 and entry.data.metrics["tokens"] == 1000
    curve = [(point.step, point.value) for point in client.get_metric_history(entry.info.run_id, "loss")]
    assert curve == [(point.step, point.loss) for point in figures.curve]
    kept = run.folder.resolve() / "mlflow" / "artifacts" / entry.info.run_id / "artifacts"
    assert sorted(path.name for path in kept.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "figures.json"]
    assert (kept / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    row = {figures.seed: {figures.seed: 0.75}}  # measured after all are trained
    write_atomic(run.measurements, Measurements(
        made_from="0", matrix=row, probes=row, chat_probes=row, chance=0.1, probe_items=24, chat_items=3,
        general={figures.seed: 0.9}, router={}).line())
    track_all(run, SETTINGS)
    metrics = next(entry.data.metrics for _, entry in entries(run) if entry.data.params["seed"] == figures.seed)
    assert (metrics["probes"], metrics["general"]) == (0.75, 0.9)


def test_an_expert_is_tracked_once_and_whole(run: Run) -> None:
    """Prevents: an expert that appears twice after a stage that was run again, or half after a kill."""
    figures = finished(run)[1]
    with module._store(run) as (client, experiment):
        client.create_run(experiment, tags={"adapter_sha256": figures.adapter_sha256})  # what a kill leaves
    for _ in range(2):
        track_all(run, SETTINGS)
    found = entries(run)
    assert sorted(entry.data.tags["adapter_sha256"] for _, entry in found) == sorted(
        expert.adapter_sha256 for expert in read_jsonl(run.registry, Expert))
    assert {entry.info.status for _, entry in found} == {"FINISHED"}


def test_nothing_is_tracked_unless_asked_for(run: Run) -> None:
    """Prevents: a store in every run, and MLflow imported by people who do not use it."""
    track(run, *finished(run), resolve())
    assert not (run.folder / "mlflow").exists()


def test_a_damaged_store_does_not_cost_the_experts(run: Run) -> None:
    """Prevents: MLflow's or SQLAlchemy's traceback after a night of training."""
    (run.folder / "mlflow").mkdir()
    (run.folder / "mlflow" / "mlflow.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="Move that folder away.*experts are kept"):
        track(run, *finished(run), SETTINGS)


def test_without_the_extra_it_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: an ImportError after the first expert has been trained."""
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "mlflow" else find(name))
    with pytest.raises(ConfigError, match=r"mlflow is not installed here.*pip install 'rostok\[mlflow\]'.*--set tracking=none"):
        check()


def test_nothing_is_told_to_anybody() -> None:
    """Prevents: MLflow's telemetry, which is on unless its switch is set before it is imported."""
    code = ("from rostok.environment import prepare; prepare(); import mlflow; from mlflow.telemetry.utils import "
            "is_telemetry_disabled; print(is_telemetry_disabled())")
    clean = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}  # outside of pytest, whose presence switches it off, too
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=clean)
    assert done.stdout.split()[-1] == "True"


def test_the_setting_is_known() -> None:
    """Prevents: a misspelt tracker that silently tracks nothing."""
    with pytest.raises(ConfigError, match="tracking"):
        resolve(options={"tracking": "wandb"})
    assert isinstance(SETTINGS, Settings)
