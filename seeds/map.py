"""The library as a picture: seeds on the two directions in which their thoughts differ most, in the terminal and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from rostok.seeds.measures import Embeds, thought
from rostok.seeds.record import Seed

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")  # Okabe and Ito's, told apart by the colour-blind


def positions(seeds: Sequence[Seed], embedder: Embeds) -> NDArray[np.float64]:
    """The first two principal components of the seeds' vectors, shape [seeds, 2], within -1 and 1 on one scale.

    The sign of a component is arbitrary; the seed that lies farthest out is put on its positive side.
    """
    vectors = embedder.embed([thought(seed) for seed in seeds]).astype(np.float64)
    if len(seeds) < 2:
        return np.zeros((len(seeds), 2))
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    where = np.zeros((len(seeds), 2))
    where[:, : min(2, len(values))] = (left * values)[:, :2]
    for column in range(2):
        if where[np.abs(where[:, column]).argmax(), column] < 0:
            where[:, column] *= -1
    widest = np.abs(where).max()
    return where / widest if widest > 1e-9 else np.zeros_like(where)


def terminal(seeds: Sequence[Seed], where: NDArray[np.float64], width: int = 78, height: int = 22) -> str:
    """The map in characters: every seed its number, and below it who has which; whoever is covered is named beside the cover."""
    grid = [[" "] * width for _ in range(height)]
    labels = [str(number) for number in range(1, len(seeds) + 1)]
    taken: dict[tuple[int, int], int] = {}
    hidden: dict[int, list[int]] = {}
    for index, (label, (x, y)) in enumerate(zip(labels, where, strict=True)):
        column = round((x + 1) / 2 * (width - len(label)))
        row = round((1 - y) / 2 * (height - 1))
        cells = [(row, column + k) for k in range(len(label))]
        other = next((taken[cell] for cell in cells if cell in taken), None)
        if other is not None:
            hidden.setdefault(other, []).append(index)
            continue
        for cell, letter in zip(cells, label, strict=True):
            grid[cell[0]][cell[1]] = letter
            taken[cell] = index
    frame = "─" * width
    lines = [f"┌{frame}┐", *(f"│{''.join(row)}│" for row in grid), f"└{frame}┘"]
    digits = len(labels[-1]) if labels else 1
    for index, seed in enumerate(seeds):
        near = f"  (on it: {', '.join(labels[k] for k in hidden[index])})" if index in hidden else ""
        lines.append(f"{labels[index]:>{digits}}  {seed.id}  {seed.title}{near}")
    return "\n".join(lines)


def svg(seeds: Sequence[Seed], where: NDArray[np.float64], width: int = 900, height: int = 620) -> str:
    """The map as a self-contained SVG: a circle a seed with its number, its title beside it and as a tooltip.

    Seeds of one theme share a colour; a child of evolution is drawn hollow, with lines to its parents.
    """
    pad = 60
    themes = list(dict.fromkeys(seed.lineage.theme for seed in seeds))
    spots = {seed.id: (pad + (x + 1) / 2 * (width - 2 * pad), pad + (1 - y) / 2 * (height - 2 * pad))
             for seed, (x, y) in zip(seeds, where, strict=True)}
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif">',
             f"<title>Map of {len(seeds)} thought seeds</title>", '<rect width="100%" height="100%" fill="#fff"/>']
    for seed in seeds:
        x, y = spots[seed.id]
        parts += [f'<line x1="{spots[parent][0]:.1f}" y1="{spots[parent][1]:.1f}" x2="{x:.1f}" y2="{y:.1f}" stroke="#bbb"/>'
                  for parent in seed.lineage.parents if parent in spots]
    for number, seed in enumerate(seeds, start=1):
        x, y = spots[seed.id]
        colour = _COLOURS[themes.index(seed.lineage.theme) % len(_COLOURS)]
        fill, ink = ("#fff", colour) if seed.lineage.operator else (colour, "#fff")
        anchor, shift = ("end", -14) if x > width * 0.7 else ("start", 14)
        parts.append(
            f'<g><title>{escape(seed.title)} ({seed.id})</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="11" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="10" fill="{ink}">{number}</text>'
            + (f'<text x="{x + shift:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}" font-size="11" fill="#333">{escape(seed.title)}'
               "</text>" if len(seeds) <= 40 else "") + "</g>")
    return "\n".join([*parts, "</svg>", ""])
