"""What goes wrong in a night: jobs that kill their worker, corpora that cannot be trained on, torn files, no disk, no memory,
a stop in the middle, an hour that comes. The others go on."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rostok.config import EMBEDDED
from rostok.models import find_base, training_folder
from rostok.swarm.jobs import JobTable
from rostok.swarm.local import LocalWorker
from rostok.swarm.messages import Message, Plan, Ready
from rostok.swarm.supervisor import supervise
from tests.swarm.test_kills import adapters, finish, slow, start, unbroken
from tests.swarm.tiny_run import make_base, make_corpus, make_run, orders

BEYOND_THE_BASE = 450 * 2**20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def rostok(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "rostok.cli", *arguments], capture_output=True, text=True, timeout=120,
                          check=False)


def test_what_cannot_be_trained_is_named_and_the_others_go_on(base: Path, tmp_path: Path) -> None:
    """Prevents: a night that one bad corpus, one torn file or one full disk brings down."""
    run = make_run(tmp_path / "run", base, seeds=6, pages=12)
    make_corpus(run, "s-0001", 0)             # an empty corpus
    make_corpus(run, "s-0002", 1)             # too small for a step
    run.experts.mkdir()
    run.part("s-0003").write_text("a file where its folder should be: the disk refuses")
    run.part("s-0004").mkdir()
    (run.part("s-0004") / "checkpoint-0000003.json").write_text('{"made_from": "cut sh')
    pages = run.corpora / "s-0005" / "pages.jsonl"
    pages.write_bytes(pages.read_bytes()[:-30])
    said = finish(start(run))
    with JobTable(run.jobs) as table:
        rows = {row.name: row for row in table.rows()}
    assert {name: row.state for name, row in rows.items()} == {
        "s-0000": "done", "s-0001": "failed", "s-0002": "failed", "s-0003": "failed", "s-0004": "done", "s-0005": "failed"}, said
    assert "corpus of 0 training pages is too small for steps of 2" in rows["s-0001"].reason
    assert "corpus of 1 training pages is too small" in rows["s-0002"].reason
    assert "cannot write" in rows["s-0003"].reason
    assert "pages.jsonl, line 12" in rows["s-0005"].reason
    assert "checkpoint-0000003.json is refused: it is cut short or damaged; training goes on from the start" in said
    shown = rostok("swarm", "status", str(run.folder))
    assert shown.returncode == 0, shown.stderr
    assert "2 done · 4 failed" in shown.stdout
    assert "nobody is at work" in shown.stdout


@slow
def test_a_job_that_kills_its_worker_is_put_into_quarantine(tmp_path: Path) -> None:
    """Prevents: a night that ends with the first job that kills its worker, or that blames its company."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(training_folder(find_base(EMBEDDED)))
    rare = "".join(tokenizer.decode([number]) for number in range(48_000, 48_012))
    assert max(tokenizer(rare)["input_ids"]) >= 45_000
    run = make_run(tmp_path / "run", make_base(tmp_path / "base", vocabulary=45_000), seeds=4, pages=12)
    make_corpus(run, "s-0001", 12, rare)  # tokens that the base has not: its worker dies in the first step
    said = finish(start(run))
    with JobTable(run.jobs) as table:
        rows = {row.name: row for row in table.rows()}
        moves = table.transitions()
    assert {name: row.state for name, row in rows.items()} == {
        "s-0000": "done", "s-0001": "quarantined", "s-0002": "done", "s-0003": "done"}, said
    assert [move.after for move in moves if move.name == "s-0001"] == [
        "queued", *["running", "queued"] * 2, "running", "quarantined"]
    assert "IndexError" in rows["s-0001"].reason
    assert "The tale of s-0001 is put into quarantine" in said
    assert rows["s-0000"].failures == 0


@slow
def test_a_stop_writes_checkpoints_and_what_goes_on_is_the_same(base: Path, tmp_path: Path) -> None:
    """Prevents: a stop that loses what was trained, is forgotten, or ends the next start as well."""
    run = make_run(tmp_path / "run", base, seeds=3, training={"epochs": 20, "together": 2})
    process = start(run)
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if run.jobs.exists():
            with JobTable(run.jobs) as table:
                if sum(row.step for row in table.rows()) > 5:
                    break
        time.sleep(0.01)
    shown = rostok("swarm", "status", str(run.folder), "--once")
    assert "2 running" in shown.stdout
    assert "at work: 'tiny'" in shown.stdout
    assert "tokens/s" in shown.stdout
    stopped = rostok("swarm", "stop", str(run.folder))
    assert stopped.returncode == 0, stopped.stderr
    assert "Go on with: rostok swarm resume" in stopped.stdout
    assert "stopped True" in finish(process)
    assert not adapters(run)
    with JobTable(run.jobs) as table:
        kept = {row.name: row.kept for row in table.rows() if row.kept}
        assert {row.state for row in table.rows()} == {"queued"}
    assert set(kept) == {path.parent.name.removesuffix(".part") for path in run.experts.glob("*.part/checkpoint*.json")}
    assert len(kept) == 2
    again = rostok("swarm", "stop", str(run.folder))
    assert again.returncode == 2
    assert "nobody is at work" in again.stderr
    said = finish(start(run))
    with JobTable(run.jobs) as table:
        assert {row.state for row in table.rows()} == {"done"}, said
        assert all(row.attempts == 2 for row in table.rows() if row.name in kept)
    assert adapters(run) == unbroken(make_run(tmp_path / "unbroken", base, seeds=3, training={"epochs": 20}))


@slow
def test_by_the_hour_it_has_stopped_and_what_was_begun_is_kept(base: Path, tmp_path: Path) -> None:
    """Prevents: a plan that is not told, experts begun that cannot be whole by then, and work after the hour."""
    run = make_run(tmp_path / "run", base, training={"epochs": 40, "together": 2})
    began = time.time()
    process = start(run, "14")
    said = finish(process)
    assert time.time() - began < 60  # where the work itself takes minutes
    assert "experts can be trained until" in said, said
    with JobTable(run.jobs) as table:
        rows = table.rows()
    assert {row.state for row in rows} <= {"done", "queued"}
    assert any(row.state == "queued" for row in rows)
    assert "no further expert fits into the time" in said or "the time is up" in said
    assert all(list(run.part(row.name).glob("checkpoint*.json")) for row in rows if row.state == "queued" and row.kept)


class Limited(LocalWorker):
    """A worker that may take only so much beyond the loaded base."""

    def poll(self) -> list[Message]:
        messages = super().poll()
        if any(isinstance(message, Ready) for message in messages):  # before it is handed a job
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[0])
            resource.prlimit(self._process.pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + BEYOND_THE_BASE,) * 2)
        return messages


def test_without_memory_fewer_are_trained_at_once_and_each_is_the_same(tmp_path: Path) -> None:
    """Prevents: a step that runs out of memory and takes the night with it, or adapters that depend on the memory at hand."""
    base = make_base(tmp_path / "base", width=512)
    training = {"rank": 128, "together": 8, "epochs": 1}  # 50 MB an adapter
    run = make_run(tmp_path / "run", base, pages=10, training=training)
    said: list[str] = []
    with run.held("tiny"), JobTable(run.jobs) as table:
        table.enter(orders(run))
        outcome = supervise(table, ["cpu"], lambda device, plan: Limited(run, device, plan), tell=said.append,
                            plan=Plan(together=8, pass_tokens=2048))
    assert any("ran out of memory" in text for text in said), said
    assert {row.state for row in outcome.rows} == {"done"}, said
    assert len(outcome.rows) == 8
    assert adapters(run) == unbroken(make_run(tmp_path / "unbroken", base, pages=10, training=training))
