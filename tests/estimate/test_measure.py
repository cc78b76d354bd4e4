"""Parts of the measuring with the embedded model, kept small; the whole of it is `make bench-estimate`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from rostok.config import resolve
from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.estimate.example import example
from rostok.estimate.recorder import Enough, Recorder
from rostok.estimate.writing import corpus_pace
from rostok.generator.frozen import frozen
from rostok.generator.records import Manifest
from rostok.records import read_record
from rostok.seeds.lint import placeholders

SMALL = {"corpus": {"bank": 0, "shares": {"written": 0.0, "composed": 0.6, "dialogue": 0.3, "replay": 0.1}}}


@pytest.mark.parametrize("nodes", range(8, 21))
def test_there_is_an_example_of_every_size(nodes: int) -> None:
    """Prevents: a setting of author.nodes for which nothing can be measured."""
    seed = example(nodes)
    assert len(seed.nodes) == nodes
    assert seed.is_ring()
    assert not placeholders(seed)
    assert seed.id == example(nodes).id


def test_the_recorder_hears_what_was_asked(engine: Engine) -> None:
    """Prevents: tokens or seconds that are noted in another order than that of the requests, or twice."""
    recorder = Recorder(engine)
    asked = [Request((Message("user", "Count the boats."),), Sampling(max_tokens=tokens, temperature=0.0))
             for tokens in (2, 9, 5)]
    done = [future.result() for future in recorder.submit_all(asked)]
    (wave,) = recorder.waves
    assert wave.lengths == [completion.tokens for completion in done]
    assert wave.seconds > 0
    assert recorder.tokens == sum(wave.lengths)
    assert recorder.tokenize("boats") == engine.tokenize("boats")
    recorder.close()
    assert engine.submit(asked[0]).result().tokens == done[0].tokens  # the engine is not the recorder's to close


def test_a_stage_ends_when_enough_was_seen(engine: Engine) -> None:
    """Prevents: an author that is timed for as long as a whole seed takes."""
    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        Recorder(engine, stop).submit_all([Request((Message("user", "Count."),), Sampling(max_tokens=1))])


def test_a_corpus_is_taken_apart(engine: Engine, tmp_path: Path) -> None:
    """Prevents: pages, refusals or seconds of a real corpus that are lost between the bank, the model and the gates."""
    settings = resolve(options=SMALL)
    engine_pace, pace = corpus_pace(engine, example(8), settings, tmp_path, "0" * 64, pages=20, opened_s=1.5)
    manifest = read_record(tmp_path / "manifest.json", Manifest)
    assert manifest.pages == 20
    assert pace.by_model == pytest.approx(manifest.by_kind["replay"] / 20)
    assert 0 < pace.bank_s < 1  # the plan
    assert sum(pace.lengths) == manifest.sampled_tokens
    assert engine_pace.open_s == 1.5
    assert engine_pace.rate() > 0
    assert 0 < pace.page_s < 1


def test_what_is_loaded_once_is_not_told_by_the_page(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: the seconds of an import or a file divided by forty pages, and multiplied by every page of a large library."""
    load = np.load

    def slowly(*given: object, **named: object) -> object:
        time.sleep(4)
        return load(*given, **named)  # type: ignore[arg-type]

    frozen.cache_clear()
    monkeypatch.setattr(np, "load", slowly)
    _, pace = corpus_pace(engine, example(8), resolve(options=SMALL), tmp_path, "0" * 64, pages=20, opened_s=1.5)
    assert pace.page_s < 4 / 20
    assert pace.bank_s < 1
