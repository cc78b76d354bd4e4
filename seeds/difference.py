"""What differs between two seeds, or between two libraries, as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from rostok.seeds.record import Seed


def between_seeds(old: Seed, new: Seed) -> list[str]:
    """`- ` what only the old seed has, `+ ` what only the new one has, field by field; empty when they are the same thought.

    Nodes and transitions are compared by name: a key is only a name's place.
    """
    before, after = _lines(old), _lines(new)
    found: list[str] = []
    for field in before:
        gone = [line for line in before[field] if line not in after[field]]
        come = [line for line in after[field] if line not in before[field]]
        found += [f"- {field}: {line}" for line in gone] + [f"+ {field}: {line}" for line in come]
    return found


def between_libraries(old: Sequence[Seed], new: Sequence[Seed]) -> list[str]:
    """`- ` seeds that only the old library has, `+ ` that only the new one has, `~ ` edited ones with what differs.

    Seeds are the same by their id; of those left, two with the same title, or at least half of the nodes in common, count
    as one that was edited.
    """
    gone = [seed for seed in old if seed.id not in {other.id for other in new}]
    come = [seed for seed in new if seed.id not in {other.id for other in old}]
    found: list[str] = []
    for seed in gone:
        again = next((other for other in come if _same(seed, other)), None)
        if again is None:
            found.append(f"- {seed.id}  {seed.title}")
            continue
        come.remove(again)
        found += [f"~ {seed.id} is now {again.id}  {again.title}", *(f"    {line}" for line in between_seeds(seed, again))]
    return found + [f"+ {seed.id}  {seed.title}" for seed in come]


def _same(one: Seed, other: Seed) -> bool:
    names, others = ({node.name.casefold() for node in seed.nodes} for seed in (one, other))
    if one.id in other.lineage.parents:
        return False
    return one.title.casefold() == other.title.casefold() or 2 * len(names & others) > len(names | others)


def _lines(seed: Seed) -> dict[str, list[str]]:
    return {
        "title": [seed.title], "language": [seed.language], "scene": [seed.scene],
        "node": [f"{node.name}: {node.gloss}" for node in seed.nodes],
        "transition": [
            f"{seed.name(step.source)} -{step.operation}-> {seed.name(step.target)} ({step.tension:g}): {step.sentence}"
            for step in seed.walk()],
        "release": [seed.name(seed.release)] if seed.release is not None else [],
        "contradiction": [f"{' # '.join(sorted((seed.name(clash.a), seed.name(clash.b))))}: {clash.sentence}"
                          for clash in seed.contradictions],
        "registers": [", ".join(seed.registers)],
    }
