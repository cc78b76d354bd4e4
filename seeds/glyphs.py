"""One Unicode symbol for every node, for the eye alone: whatever reads a page aloud should leave the glyph line out.

A symbol is drawn from the hash of the node's name, so that the same node has the same symbol in every seed it comes
into. Inside one seed no two nodes share one: where two names claim the same, which happens in about one seed of twelve
nodes in six, the higher key takes the next free one, and may get its own back when the other node goes.
"""

from __future__ import annotations

from collections.abc import Iterable

from rostok.records import digest

# Of the Basic Multilingual Plane, drawn by DejaVu and Noto Sans Symbols, none with an emoji form. The order is part of
# the format: a symbol put in the middle would change those of every seed.
_RANGES = ((0x2336, 0x2379), (0x2295, 0x22AF), (0x25C8, 0x25EF), (0x25A3, 0x25A9), (0x27D0, 0x27E5), (0x299B, 0x29A2),
           (0x29B0, 0x29C9), (0x29D1, 0x29D7), (0x29DC, 0x29FB), (0x2A00, 0x2A0B), (0x2A33, 0x2A3C), (0x2A59, 0x2A67),
           (0x2300, 0x2307), (0x2311, 0x2319), (0x232C, 0x2335), (0x2380, 0x239A), (0x23BE, 0x23CE), (0x2630, 0x2637),
           (0x263D, 0x263F), (0x2643, 0x2647), (0x2654, 0x265E), (0x2625, 0x2629))
SYMBOLS = "".join(chr(code) for first, last in _RANGES for code in range(first, last + 1))
FIRST = "◉◬◈⬡✶☍⟁⌬⏃⎔⍟⌖☌⏚⎈⍜⌇⏁⍙⎊"  # format 1: one per place among the nodes, whatever stood there


def symbols(nodes: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{key: symbol} for (key, name) pairs. Where two names hash to one symbol the lower key has it."""
    taken: dict[str, str] = {}
    for key, name in sorted(nodes):
        home = int(digest(name.casefold())[:8], 16)
        free = next(SYMBOLS[(home + step) % len(SYMBOLS)] for step in range(len(SYMBOLS))
                    if SYMBOLS[(home + step) % len(SYMBOLS)] not in taken.values())
        taken[key] = free
    return taken
