"""The ensemble's view of a finished corpus: which pages it may remember, and what somebody would ask with them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rostok.generator.folder import remedy
from rostok.generator.records import Manifest, Page
from rostok.records import iter_jsonl, read_record
from rostok.runs import Run
from rostok.seeds.record import Seed

_SENTENCE = re.compile(r".+?[.!?…][\"'”’)\]]*(?=\s|$)", re.DOTALL)


def manifests(run: Run, seeds: Sequence[Seed]) -> dict[str, Manifest]:
    """{seed: manifest} of the finished corpora, in the order of the seeds."""
    paths = {seed.id: run.corpora / seed.id / "manifest.json" for seed in seeds}
    return {seed: read_record(path, Manifest) for seed, path in paths.items() if path.is_file()}


def pages(run: Run, seed: str, *, held_out: bool) -> list[Page]:
    """The pages of one corpus about its seed (no replay), those held out or those trained on."""
    folder = run.corpora / seed
    return [page for page in iter_jsonl(folder / "pages.jsonl", Page, remedy=remedy(folder))
            if page.held_out == held_out and page.kind != "replay"]


def first_sentence(page: Page) -> str:
    """The first sentence of a page; of a dialogue the first thing the user says."""
    said = next((turn.content for turn in page.turns if turn.role == "user"), None)
    if said is not None:
        return said.strip()
    found = _SENTENCE.match(page.text.strip())
    return found.group() if found else page.text.strip()
