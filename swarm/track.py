"""MLflow beside figures.json: settings, curves and adapter of every expert, in `mlflow/` of the run, nothing sent anywhere.

MLflow 3 keeps its store of files alive for old users only, so this is its SQLite store. To look at it, with the whole of
MLflow (the extra installs the part that writes): `mlflow ui --backend-store-uri sqlite:///RUN/mlflow/mlflow.db`.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rostok.config import Settings
from rostok.errors import ConfigError, StorageError
from rostok.records import read_record
from rostok.runs import Run
from rostok.swarm.records import Figures, Measurements

_ARTEFACTS = ("adapter_model.safetensors", "adapter_config.json", "figures.json")  # adapter.gguf holds the same once more
_VALUE = 6000  # characters that MLflow takes for one parameter


def track(run: Run, expert_folder: Path, figures: Figures, settings: Settings) -> None:
    """Write one finished expert to the store; one that is there whole is not written again.

    Raises:
        ConfigError: MLflow is not installed.
        StorageError: the store cannot be written.
    """
    if settings.tracking == "none":
        return
    check()
    with _store(run) as (client, experiment):
        if _tracked(client, experiment, figures):
            return
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        name = f"{figures.seed} {figures.title}"
        entry = client.create_run(experiment, run_name=name, start_time=now - round(figures.seconds * 1000),
                                  tags={"adapter_sha256": figures.adapter_sha256, "base_sha256": figures.base_sha256,
                                        "corpus_sha256": figures.corpus_sha256, "made_from": figures.made_from,
                                        "rostok": figures.rostok})
        params = {"seed": figures.seed, "title": figures.title, "random_seed": settings.random_seed, "base": settings.models.base,
                  **_flat(figures.settings.model_dump(mode="json"))}
        totals = {key: value for key, value in figures.model_dump(mode="json").items()
                  if isinstance(value, int | float) and not isinstance(value, bool)}
        metrics = [Metric(key, float(value), now, 0) for key, value in totals.items()]
        for point in figures.curve:
            metrics.append(Metric("loss", point.loss, now, point.step))
            metrics.append(Metric("learning_rate", point.learning_rate, now, point.step))
        for at in range(0, len(metrics), 1000):  # MLflow's limit for one batch
            client.log_batch(entry.info.run_id, metrics=metrics[at : at + 1000])
        client.log_batch(entry.info.run_id, params=[Param(key, str(value)[:_VALUE]) for key, value in params.items()][:100])
        for artefact in _ARTEFACTS:
            if (expert_folder / artefact).is_file():
                client.log_artifact(entry.info.run_id, str(expert_folder / artefact))
        client.set_terminated(entry.info.run_id, end_time=now)  # last: a killed one is written again


def track_all(run: Run, settings: Settings) -> None:
    """Every finished expert that is not tracked yet, and what the measurements say of each. Raises as `track` does."""
    if settings.tracking == "none":
        return
    measured = read_record(run.measurements, Measurements) if run.measurements.is_file() else None
    for marker in sorted(run.experts.glob("*/figures.json")):
        figures = read_record(marker, Figures)
        track(run, marker.parent, figures, settings)
        if measured is None or figures.seed not in measured.probes:
            continue
        learned = {"probes": measured.probes[figures.seed].get(figures.seed),
                   "chat_probes": measured.chat_probes.get(figures.seed, {}).get(figures.seed),
                   "bits_per_byte": measured.matrix[figures.seed].get(figures.seed), "general": measured.general[figures.seed]}
        with _store(run) as (client, experiment):
            entry = _tracked(client, experiment, figures)
            for key, value in learned.items():
                if entry and value is not None and entry.data.metrics.get(key) != value:
                    client.log_metric(entry.info.run_id, key, value)


def check() -> None:
    """Raises `ConfigError` where MLflow, or what its SQLite store needs, is not installed."""
    missing = [name for name in ("mlflow", "sqlalchemy", "alembic") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"tracking is set to mlflow, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
                          "installed here. Get it with: pip install 'rostok[mlflow]', or leave it out with --set tracking=none.")


@contextmanager
def _store(run: Run) -> Iterator[tuple[Any, str]]:
    """The client of the run's own store, and the id of its experiment."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they tell of every table that they make
    folder = (run.folder / "mlflow").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
        known = client.get_experiment_by_name(run.folder.resolve().name)
        experiment = known.experiment_id if known else client.create_experiment(
            run.folder.resolve().name, artifact_location=(folder / "artifacts").as_uri())
        yield client, experiment
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"MLflow cannot write to {folder} ({reason}). Move that folder away and run the same command again: "
                           "the experts are kept, and all of them are tracked anew.") from error


def _tracked(client: Any, experiment: str, figures: Figures) -> Any:
    """The whole entry of this adapter or None; halves that a kill has left are taken away."""
    found = None
    for entry in client.search_runs([experiment], f"tags.adapter_sha256 = '{figures.adapter_sha256}'"):
        if entry.info.status == "FINISHED":
            found = entry
        else:
            client.delete_run(entry.info.run_id)
    return found


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return flat
