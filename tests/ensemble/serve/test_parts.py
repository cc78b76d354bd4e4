"""Parts of the server that can be wrong by themselves."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from rostok.config import Settings, resolve
from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.history.answer import Answer, hue
from rostok.ensemble.serve import server
from rostok.ensemble.serve.answering import Answering
from rostok.ensemble.serve.faces import Faces
from rostok.ensemble.serve.metrics import Metrics
from rostok.ensemble.serve.place import SeedPlaces
from rostok.ensemble.serve.refusal import Refusal, refused
from rostok.errors import AdapterError, DataError, PromptTooLong, QuestionError, RunError, StorageError
from rostok.records import read_record
from rostok.report.sources import SeedMap
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Expert


def test_faces_are_found_by_id_only(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: an adapter that is named by a path, or by the beginning of a name."""
    faces = Faces([seed.id for seed in seeds], ensemble.experts, ensemble.titles)
    assert [face.number for face in faces.serving] == [1, 2, 3]
    for seed, expert in ensemble.experts.items():
        assert faces.called(seed) == faces.called(expert.id) == faces.of(seed)
        assert faces.of(seed).hue == hue(seed)
        for wrong in (seed[:-1], expert.id[:6], expert.folder, f"./{seed}", f"{seed}/", expert.title, ""):
            assert faces.called(wrong) is None
    assert faces.called("base") == faces.of(None)


def test_two_experts_of_one_id_are_told_apart(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: two experts whose hashes begin alike, of which one cannot be asked."""
    twins = {seed: Expert.model_validate({**expert.model_dump(), "id": "aaaaaa+bbbbbb"})
             for seed, expert in ensemble.experts.items()}
    faces = Faces([seed.id for seed in seeds], twins, ensemble.titles)
    assert [face.model for face in faces.serving] == [seed.id for seed in seeds]


def test_places_are_those_of_the_axes(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: a question that is put beside the place where its own text lies."""
    places = SeedPlaces(ensemble.memory, [seed.id for seed in seeds])
    keys = ensemble.memory.known("pages")
    _, vectors = ensemble.memory.stored("pages", keys)
    assert [places.of(vector) for vector in vectors] == [(x, y) for _, x, y in places.pages]
    assert max(abs(value) for place in places.seeds.values() for value in place) <= 1.05


def test_the_page_has_the_reports_map(ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: two maps of one run on which the same seeds lie elsewhere."""
    places = SeedPlaces(ensemble.memory, [seed.id for seed in seeds])
    points = read_record(ensemble.run.seeds / "map.json", SeedMap).points
    scale = max(abs(value) for point in points for value in (point.x, point.y))
    here = [*places.seeds.values(), *((x, y) for _, x, y in places.pages)]
    assert np.allclose(here, [(point.x / scale, point.y / scale) for point in points], atol=2e-4)


def test_the_setting_says_how_many_answers_are_computed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a setting that does nothing."""
    asked = list[int]()

    def opened(run: Run, settings: Settings, *, sequences: int) -> None:
        asked.append(sequences)
        raise RunError("that is enough")

    monkeypatch.setattr(server, "open_ensemble", opened)
    with pytest.raises(RunError, match="enough"):
        server.serve(Run(tmp_path), resolve(options={"ensemble": {"sequences": 3}}), server.Address(port=0), print)
    assert asked == [3]


@pytest.mark.parametrize(("error", "status"), [
    (PromptTooLong("x"), 400), (QuestionError("x"), 400), (RunError("x"), 400),
    (AdapterError("x"), 503), (StorageError("x"), 503),
    (DataError("x"), 500), (KeyError("a secret"), 500), (Refusal(418, "x"), 418)])
def test_errors_have_their_status(error: Exception, status: int) -> None:
    """Prevents: a user's mistake that is called a server's, and words of others in a message about a bug."""
    told = refused(error)
    assert told.status == status and "secret" not in told.message
    assert told.response().status_code == status


def test_an_answer_that_is_not_waited_for_gives_its_place_back() -> None:
    """Prevents: places that are lost to clients that have left, before the first word or in the middle."""
    async def run() -> None:
        answering = Answering(1, Metrics())
        stopped = threading.Event()

        def speak(on_text: object, on_route: object, stop: threading.Event) -> object:
            stop.wait(10)
            stopped.set()
            raise RunError("stopped")

        waiting = asyncio.ensure_future(answering.whole(speak))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal) as full:
            await answering.whole(speak)  # type: ignore[arg-type]
        assert full.value.status == 429
        waiting.cancel()
        await asyncio.sleep(0.2)
        assert stopped.is_set() and answering.places.taken == 0
        await answering.close()
        with pytest.raises(Refusal) as closed:
            await answering.whole(speak)  # type: ignore[arg-type]
        assert closed.value.status == 503
        with pytest.raises(Refusal) as closed:  # a list or a search, whose pool is gone
            await answering.call(len, "x")
        assert closed.value.status == 503

    asyncio.run(run())


def test_a_call_that_waits_at_the_end_is_refused() -> None:
    """Prevents: a 500, or a connection that breaks off, for who asked for a list while the server was ending."""
    async def run() -> None:
        answering, free = Answering(1, Metrics()), threading.Event()
        busy = [asyncio.ensure_future(answering.call(free.wait, 10)) for _ in range(20)]
        waiting = asyncio.ensure_future(answering.call(len, "x"))
        await asyncio.sleep(0.05)
        await answering.close()
        with pytest.raises(Refusal) as told:
            await waiting
        free.set()
        assert told.value.status == 503
        await asyncio.gather(*busy, return_exceptions=True)

    asyncio.run(run())


def test_the_log_tells_a_bug_without_what_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    """Prevents: somebody's question in the terminal of `rostok serve`, because an error quotes the value that it fell over."""
    async def run() -> None:
        answering = Answering(1, Metrics())

        def speak(*_: object) -> Answer:
            raise ValueError("input_value='Who is Xylophagus?'")

        with pytest.raises(ValueError, match="Xylophagus"):
            await answering.whole(speak)
        await answering.close()

    asyncio.run(run())
    assert "an answer failed: ValueError" in caplog.text and "in speak" in caplog.text
    assert "Xylophagus" not in caplog.text.replace("""raise ValueError("input_value='Who is Xylophagus?'")""", "")
