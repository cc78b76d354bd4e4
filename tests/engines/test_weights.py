"""The number format is measured, kept, and measured again when the machine is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rostok.engines import weights
from rostok.errors import ModelError
from rostok.models import find_base, serving_folder


def test_the_choice_is_the_fastest_of_what_was_measured(base_gguf: Path) -> None:
    """Prevents: a comparison that is made and then not followed."""
    base = find_base("embedded")
    known = weights.measured(serving_folder(base))
    assert known is not None
    assert {speed.form for speed in known.speeds} == {"shipped", "BF16", "Q8_0"}
    assert known.chosen == min(known.speeds, key=lambda speed: speed.page).form
    assert base_gguf == (base.source if known.chosen == "shipped" else serving_folder(base) / f"{known.chosen.lower()}.gguf")
    assert [path.name for path in serving_folder(base).glob("*.gguf")] == [base_gguf.name][: known.chosen != "shipped"]


def test_a_comparison_from_another_machine_does_not_count(base_gguf: Path, tmp_path: Path) -> None:
    """Prevents: a home folder that was copied to a slower processor and keeps the old one's format."""
    kept = (serving_folder(find_base("embedded")) / "weights.json").read_text(encoding="utf-8")
    (tmp_path / "weights.json").write_text(kept, encoding="utf-8")
    assert weights.measured(tmp_path) is not None
    other = weights.Measured.model_validate_json(kept).model_copy(update={"processor": "Another One 9000"})
    (tmp_path / "weights.json").write_text(other.model_dump_json(), encoding="utf-8")
    assert weights.measured(tmp_path) is None
    (tmp_path / "weights.json").write_text('{"processor": ', encoding="utf-8")
    assert weights.measured(tmp_path) is None


def test_a_file_that_cannot_be_read_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """Prevents: a half-converted model in the cache that is served for ever."""
    source, folder = tmp_path / "model.gguf", tmp_path / "serving"
    source.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(ModelError, match="cannot be read by llama.cpp"):
        weights.choose(source, folder)
    assert not folder.exists() or not list(folder.iterdir())
