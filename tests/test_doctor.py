"""The doctor: what is missing is named, and makes the command end with 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from rostok.cli import run_command
from rostok.config import ModelSettings, resolve
from rostok.doctor import Check, examine
from rostok.runs import Run


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_machine_can_run_rostok(tmp_path: Path) -> None:
    """Prevents: a doctor that calls a working machine ill, or looks at nothing."""
    checks = by_name(examine(folder=tmp_path / "runs" / "not" / "there"))
    assert [name for name, check in checks.items() if check.ok is False] == []
    assert "SmolLM2-135M-Instruct, sha256 b179c9523d0e" in checks["base"].detail
    assert checks["torch"].detail.startswith("2.")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a doctor that looks at the embedded models although the run uses others."""
    run = Run(tmp_path / "run")
    run.start(resolve(assignments=[f"models.base={tmp_path}/absent.gguf"]))
    assert run_command(["doctor", str(run.folder)]) == 2
    told = capsys.readouterr()
    assert "absent.gguf" in told.out.replace("\n", "").replace(" ", "")
    assert told.err.startswith("rostok: Rostok cannot work here yet; see above: base")


def test_a_hub_model_is_not_downloaded() -> None:
    """Prevents: a doctor that fetches gigabytes, or hangs without network."""
    check = by_name(examine(ModelSettings(base="nobody/never-was")))["base"]
    assert check.ok is False
    assert "hf download nobody/never-was" in check.detail


def test_a_full_or_forbidden_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a night that fails at the first conversion because the cache cannot be written."""
    monkeypatch.setenv("ROSTOK_CACHE", str(tmp_path / "cache"))
    checks = by_name(examine())
    assert checks["training form"].ok is None
    assert "not measured" in checks["number format"].detail
    monkeypatch.setattr("rostok.doctor.os.access", lambda path, mode: False)
    assert by_name(examine())["disk for conversions"].ok is False
