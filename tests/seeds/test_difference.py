"""Differences between seeds and between libraries."""

from __future__ import annotations

from rostok.seeds.difference import between_libraries, between_seeds


def test_seeds_are_compared_by_what_they_say(make_seed) -> None:
    """Prevents: a comparison lost in keys and derived fields."""
    old = make_seed()
    steps = [step.model_copy(update={"operation": "drowns"}) if step.source == "n02" else step for step in old.transitions]
    new = make_seed(title="Another title", transitions=tuple(steps))
    assert between_seeds(old, old) == []
    found = between_seeds(old, new)
    assert [line[:14] for line in found] == ["- title: The L", "+ title: Anoth", "- transition: ", "+ transition: "]
    assert found[3].startswith("+ transition: oil -drowns-> keeper (0.25)")


def test_an_edited_seed_is_one_seed(make_seed, make_thought) -> None:
    """Prevents: a corrected word told as a seed that went and another that came."""
    one, two, three = make_seed(1), make_thought(2), make_thought(3)
    edited = make_seed(1, scene="Every night the keeper stays below, and the tower is dark, and no ship comes in.")
    found = between_libraries([one, two], [edited, three])
    assert found[0] == f"~ {one.id} is now {edited.id}  {edited.title}"
    assert found[1].startswith("    - scene: ") and found[2].startswith("    + scene: ")
    assert found[3:] == [f"- {two.id}  {two.title}", f"+ {three.id}  {three.title}"]
    assert between_libraries([one, two], [two, one]) == []


def test_a_child_is_no_edit_of_its_parent(make_seed) -> None:
    """Prevents: a mutation told as a correction of the seed it was made from."""
    parent = make_seed(1)
    lineage = parent.lineage.model_copy(update={"parents": (parent.id,), "operator": "mutate"})
    child = make_seed(1, title="The Oil and the Dawn", lineage=lineage)
    assert [line[0] for line in between_libraries([parent], [child])] == ["-", "+"]
