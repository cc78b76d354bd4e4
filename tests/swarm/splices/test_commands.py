"""`rostok swarm merge`, `split`, `bake` and `export`: what they print, and every mistake in one sentence with exit code 2."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from safetensors.torch import load_file

from rostok.cli import run_command
from rostok.models import find_base
from rostok.records import read_jsonl, write_atomic
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Expert


def ask(run: Run, command: str, *words: str) -> int:
    """`rostok swarm COMMAND RUN …`, in which A and B stand for the two experts."""
    names = dict(zip("AB", (expert.seed for expert in read_jsonl(run.registry, Expert)), strict=False))
    return run_command(["swarm", command, str(run.folder), *(names.get(word, word) for word in words)])


def told(capsys: pytest.CaptureFixture[str], run: Run, command: str, *words: str) -> str:
    """The one sentence of a command that must fail, and leave the run as it was."""
    before = {path: path.stat().st_mtime_ns for path in run.experts.rglob("*") if path.is_file()}
    registry = run.registry.read_bytes()
    assert ask(run, command, *words) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("rostok: ") and sentence.count("\n") == 1 and "Traceback" not in sentence
    assert {path: path.stat().st_mtime_ns for path in run.experts.rglob("*") if path.is_file()} == before
    assert run.registry.read_bytes() == registry and not list(run.experts.glob("*.part"))
    return sentence


def test_the_commands_say_what_they_made(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a splice whose name nobody is told, and figures that are not kept in the journal."""
    assert ask(run, "merge", "A", "B", "--rank", "5", "--weights", "1", "0.5", "--no-measure") == 0
    merged = capsys.readouterr().out
    expert = read_jsonl(run.registry, Expert)[2]
    assert expert.seed in merged and expert.id in merged and "rank 5, " in merged and "squared singular values" in merged
    assert ask(run, "merge", "A", "B", "--method", "dare", "--density", "0.3", "--random-seed", "3", "--no-measure") == 0
    assert "dare" in capsys.readouterr().out
    assert ask(run, "split", "A", "--no-measure") == 0
    assert "leading 2 of 4" in capsys.readouterr().out
    assert ask(run, "bake", expert.id) == 0
    folder = next((run.folder / "bases").iterdir())
    assert f"--set models.base={folder}" in capsys.readouterr().out
    assert ask(run, "export", "B", "--gguf", str(tmp_path / "b.gguf"), "--merged", str(tmp_path / "b")) == 0
    assert find_base(str(tmp_path / "b")).sha256 != find_base(str(folder)).sha256
    reader = gguf.GGUFReader(tmp_path / "b.gguf")
    rank = load_file(run.experts / read_jsonl(run.registry, Expert)[1].seed / "adapter_model.safetensors")
    assert len(reader.tensors) == len(rank) and {min(tensor.shape) for tensor in reader.tensors} == {6}
    assert [event.stage for event in run.events() if event.kind == "end"] == ["merge", "merge", "split", "bake"]


@pytest.mark.parametrize(("words", "reason"), [
    ("merge A s-0000", "no expert of RUN is meant by 's-0000'. There are: s-"),
    ("merge A s-", "more than one expert of RUN is meant by 's-'"),
    ("merge A A", "both names mean the expert"),
    ("merge A B --rank 33", "a rank of 33 is above the width 32 of model.layers.0.self_attn.k_proj. Give --rank 32 or less"),
    ("merge A B --rank 11", "the sum has rank 10; a rank of 11 would only add zeros"),
    ("merge A B --rank 0", "--rank"),
    ("merge A B --density 0.5", "--density means nothing to it"),
    ("merge A B --method ties --density 1.5", "a density of 1.5 is no share"),
    ("merge A B --method linear", "--method"),
    ("split A --rank 4", "has rank 4 and cannot be split at 4. Give --rank from 1 to 3"),
    ("split nobody", "no expert of RUN is meant by 'nobody'"),
    ("bake nobody", "no expert of RUN is meant by 'nobody'"),
    ("export A", "nothing was asked for. Add --gguf FILE, --merged FOLDER, or both"),
    ("export nobody --gguf x.gguf", "no expert of RUN is meant by 'nobody'"),
    ("export A --merged RUN", "holds something else already"),
])
def test_a_mistake_is_told_in_one_sentence(run: Run, words: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a traceback for a mistake, or a splice made of something else than was meant."""
    command, *rest = words.replace("RUN", str(run.folder)).split()
    assert reason.replace("RUN", str(run.folder)) in told(capsys, run, command, *rest)


ALL = pytest.mark.parametrize("words", ["merge A B", "split A", "bake A", "export A --gguf OUT/a.gguf",
                                        "export A --merged OUT/a"])


def everywhere(run: Run, words: str, tmp_path: Path) -> list[str]:
    return words.replace("OUT", str(tmp_path)).split()


@ALL
def test_an_adapter_of_another_base_is_refused(run: Run, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: numbers of one base added to another of the same shape."""
    lines = read_jsonl(run.registry, Expert)
    write_atomic(run.registry, "".join(line.model_copy(update={"base_sha256": "ab" * 32}).line() + "\n" for line in lines))
    sentence = told(capsys, run, *everywhere(run, words, tmp_path))
    assert "is an adapter for another base (sha256 abababababab); this is base (" in sentence


@ALL
@pytest.mark.parametrize("damage", ["changed", "cut short", "missing", "pickle"])
def test_a_bad_adapter_is_refused(run: Run, words: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: an expert that is not the measured one being spliced, and a stranger's pickle being run."""
    path = run.experts / read_jsonl(run.registry, Expert)[0].seed / "adapter_model.safetensors"
    if damage == "changed":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        reason = "was changed since it was made"
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
        reason = "was changed since it was made"
    elif damage == "missing":
        path.unlink()
        reason = "is missing"
    else:
        path.rename(path.with_name("adapter_model.bin"))
        path.with_name("adapter_model.bin").chmod(0)
        reason = "adapter_model.bin is a pickle, which can run code when it is opened; it is refused"
    assert reason in told(capsys, run, *everywhere(run, words, tmp_path))


def test_other_target_modules_are_refused(run: Run, make_seed: Callable[..., Seed], add_expert: Callable[..., Expert],
                                          capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a merge of what only one of them has."""
    other = add_expert(run, make_seed(2), 2, target_modules=["q_proj"])
    sentence = told(capsys, run, "merge", "A", other.seed)
    assert "the adapters change different modules: only one of them has model.layers.0.mlp.down_proj" in sentence


@pytest.mark.parametrize("words", ["merge A B", "split B", "bake B", "export B --gguf OUT/a.gguf", "export B --merged OUT/a"])
def test_a_full_disk_leaves_the_run_as_it_was(run: Run, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: half an expert in the registry, or a disk that stays full of halves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        sentence = told(capsys, run, *everywhere(run, words, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free some space" in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_missing_for_measuring_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a bare file error after the splice was made, and the splice lost with it."""
    one = read_jsonl(run.registry, Expert)[0].seed
    (run.corpora / one / "manifest.json").unlink()
    assert ask(run, "merge", "A", "B") == 2
    sentence = capsys.readouterr().err
    assert f"the corpus of {one} is not in {run.folder}" in sentence and "--no-measure" in sentence
    assert len(read_jsonl(run.registry, Expert)) == 3


def test_a_run_without_experts_says_how_to_get_some(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: "no expert is meant by s-1" in a run that was never trained."""
    run.registry.write_text("")
    assert f"has no experts yet. Train them: rostok swarm train {run.folder}" in told(capsys, run, "split", "s-1")


def test_tracking_without_mlflow_is_refused_before_training(run: Run, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a night of training whose figures nobody can write, and a run that remembers the setting that was refused."""
    from rostok.swarm import track

    monkeypatch.setattr(track.importlib.util, "find_spec", lambda name: None)
    for words in (["swarm", "train"], ["night"]):
        before = run.file.read_text()
        assert run_command([*words, str(run.folder), "--track", "mlflow"]) == 2
        assert "pip install 'rostok[mlflow]'" in capsys.readouterr().err
        assert run.file.read_text() == before
    assert json.loads(run.file.read_text())["settings"]["tracking"] == "none"
