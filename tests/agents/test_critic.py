"""The critic with the embedded model: it compares, and a better text wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from rostok.agents import critic
from rostok.agents.draft import Desk
from rostok.agents.language import language
from rostok.config import resolve
from rostok.embedder import Embedder
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.models import find_embedder
from rostok.seeds.library import Library


@pytest.fixture(scope="module")
def desk(engine: LlamaCppEngine, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with an empty library."""
    settings = resolve()
    library = Library(tmp_path_factory.mktemp("seeds"))
    embedder = Embedder(find_embedder("embedded"))
    return Desk(engine, embedder, library, settings.author, settings.theme, 7, "0" * 64, language("en"))


def test_what_fits_the_context_wins(desk: Desk) -> None:
    """Prevents: the first candidate taken whatever it says, or the plainest text because it is likely anywhere."""
    context = "In the bakery there is an oven. Say what the oven is.\n"
    texts = ["The carburettor governs Norwegian parliament elections.", "The oven is where the baker bakes the morning bread."]
    assert critic.choose(desk, context, texts) == texts[1]
    assert critic.choose(desk, context, texts[::-1]) == texts[1]


def test_blanks_are_chosen_for_one_by_one(desk: Desk) -> None:
    """Prevents: scores of one blank that are read as another's."""
    oven, ship = "The oven is where the baker bakes the bread.", "The ship is where the captain steers to the harbour."
    blanks = [("In the bakery there is an oven.\n", [ship, oven]), ("On the sea there is a ship.\n", [oven, ship]),
              ("x", ["only"])]
    assert critic.choose_all(desk, blanks) == [oven, ship, "only"]


def test_what_the_library_has_loses(desk: Desk, make_seed: object) -> None:
    """Prevents: a library of one thought in a hundred wordings."""
    desk.library.path.parent.mkdir(exist_ok=True)
    desk.library.admit(make_seed())  # type: ignore[operator]
    known = "The keeper climbs the tower at night with oil that he cannot afford."
    fresh = "Two cooks quarrel over the price of a goose."
    assert critic.novelty(desk, [fresh])[0] > critic.novelty(desk, [known])[0]
    assert critic.choose(desk, "Tell a scene.\n", [known, fresh], as_seed=lambda text: text) == fresh
    Path(desk.library.path).unlink()
