"""Data to SVG geometry: pure functions without a word of HTML. Lengths are user units of the view box."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rostok.report.sources import MapPoint
from rostok.seeds.record import Seed

COLOURS = 8  # hues in style.css that stay apart for the colour-blind; beyond them the dash pattern changes
_DASHES = ("", "7 4", "2 3", "10 3 2 3")
CURVE_POINTS = 240  # a curve 620 units wide shows no more


def colour(index: int) -> int:
    """Which of the palette's hues the seed with this index has."""
    return index % COLOURS


def dash(index: int) -> str:
    """The `stroke-dasharray` of the line of this seed: seeds that share a hue differ in it."""
    return _DASHES[index // COLOURS % len(_DASHES)]


@dataclass(frozen=True)
class Circle:
    """A seed on the map: centre, and where its title stands (None where it would cover another)."""

    seed: str
    x: float
    y: float
    label: tuple[float, float, str] | None  # x, y, text-anchor


@dataclass(frozen=True)
class Scatter:
    """The map: one path of round dots per seed, one circle per seed."""

    width: int
    height: int
    dots: dict[str, str]
    circles: tuple[Circle, ...]


def scatter(points: Sequence[MapPoint], titles: Mapping[str, str], width: int = 760, height: int = 480) -> Scatter:
    """Fit points into `width` x `height` with the same scale in both directions, so that distances compare."""
    pad = 34.0
    xs, ys = [point.x for point in points] or [0.0], [point.y for point in points] or [0.0]
    middle = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    spans = [((width - 2 * pad), max(xs) - min(xs)), ((height - 2 * pad), max(ys) - min(ys))]
    scale = min((room / span for room, span in spans if span > 0), default=1.0)

    def place(point: MapPoint) -> tuple[float, float]:
        return (
            round(width / 2 + (point.x - middle[0]) * scale, 1),
            round(height / 2 - (point.y - middle[1]) * scale, 1),
        )

    dots: dict[str, list[str]] = {}
    for point in points:
        if point.kind == "page":
            x, y = place(point)
            dots.setdefault(point.seed, []).append(f"M{x:g} {y:g}h0")
    centres = [(point.seed, *place(point)) for point in points if point.kind == "seed"]
    taken = [(x - 13, y - 13, x + 13, y + 13) for _, x, y in centres]
    circles = []
    for seed, x, y in centres:
        label = None
        long = 7.4 * len(titles.get(seed, "")) + 4
        for lx, ly, anchor, left in (
            (x + 17, y + 5, "start", x + 15),
            (x - 17, y + 5, "end", x - 15 - long),
            (x, y + 30, "middle", x - long / 2),
            (x, y - 19, "middle", x - long / 2),
        ):
            box = (left, ly - 13, left + long, ly + 4)
            inside = box[0] >= 0 and box[2] <= width and box[1] >= 0 and box[3] <= height
            if inside and not any(_overlap(box, other) for other in taken):
                label = (round(lx, 1), round(ly, 1), anchor)
                taken.append(box)
                break
        circles.append(Circle(seed, x, y, label))
    return Scatter(width, height, {seed: "".join(path) for seed, path in dots.items()}, tuple(circles))


@dataclass(frozen=True)
class RingNode:
    """A node on the ring, its name in up to two lines beside it, and the thin line between them."""

    key: str
    name: str
    x: float
    y: float
    lines: tuple[str, ...]
    label_x: float
    label_y: float
    anchor: str
    leader: str


@dataclass(frozen=True)
class Arrow:
    """A transition: a line whose width tells the tension, and its head."""

    path: str
    width: float
    head: str
    operation: str
    source: str
    target: str
    tension: float


@dataclass(frozen=True)
class Ring:
    """A seed's nodes in the order of its walk, clockwise from the top; the view box is centred on 0, 0."""

    width: int
    height: int
    node_radius: float
    nodes: tuple[RingNode, ...]
    arrows: tuple[Arrow, ...]
    chords: tuple[tuple[str, str], ...]  # path, sentence


def ring(seed: Seed, width: int = 640, height: int = 400) -> Ring:
    """A seed as a circle of arrows, transitions across it as arrows inside, its contradictions as chords that bend inwards."""
    order = seed.order()
    count, radius = len(order), 150.0
    node_radius = 15.0 if count <= 14 else 12.0
    step = 2 * math.pi / count
    angles = [-math.pi / 2 + (place + 0.5) * step for place in range(count)]
    where = {key: _polar(angle, radius) for key, angle in zip(order, angles, strict=True)}

    arrows = []
    for part in seed.walk():
        thick = 1.2 + 6 * part.tension
        head = 5 + thick
        place = order.index(part.source)
        if order[(place + 1) % count] == part.target:
            line, tip = _arc(angles[place], step, radius, node_radius, head)
        else:
            line, tip = _across(where[part.source], where[part.target], node_radius, head)
        arrows.append(
            Arrow(
                path=line,
                width=round(thick, 1),
                head=tip,
                operation=part.operation,
                source=seed.name(part.source),
                target=seed.name(part.target),
                tension=part.tension,
            )
        )

    label_y: dict[str, float] = {}
    for side in (range(count), range(count - 1, -1, -1)):
        right = side.step > 0
        keys = [order[place] for place in side if (math.cos(angles[place]) > -1e-9) == right]
        label_y.update(zip(keys, _apart([where[key][1] * 1.16 for key in keys], 36, height / 2 - 18), strict=True))
    nodes = []
    for key, angle in zip(order, angles, strict=True):
        x, y = where[key]
        right = math.cos(angle) > -1e-9
        label_x = (1 if right else -1) * max(abs(x) + 26, 44)
        ly = label_y[key]
        name = seed.name(key)
        edge_x, edge_y = _polar(math.atan2(ly - y, label_x - x), node_radius + 1)
        nodes.append(
            RingNode(
                key=key,
                name=name,
                x=round(x, 1),
                y=round(y, 1),
                lines=_two_lines(name, 18),
                label_x=round(label_x, 1),
                label_y=round(ly, 1),
                anchor="start" if right else "end",
                leader=f"M{x + edge_x:.1f} {y + edge_y:.1f}L{label_x - (4 if right else -4):.1f} {ly:.1f}",
            )
        )

    chords = []
    for clash in seed.contradictions:
        (ax, ay), (bx, by) = where[clash.a], where[clash.b]
        inner = (radius - node_radius - 2) / radius
        chords.append(
            (
                f"M{ax * inner:.1f} {ay * inner:.1f}Q{(ax + bx) / 6:.1f} {(ay + by) / 6:.1f} "
                f"{bx * inner:.1f} {by * inner:.1f}",
                clash.sentence,
            )
        )
    return Ring(width, height, node_radius, tuple(nodes), tuple(arrows), tuple(chords))


def _arc(angle: float, step: float, radius: float, node_radius: float, head: float) -> tuple[str, str]:
    """The way to the next node of the circle, as a path and the corners of the arrow's head."""
    start, end = angle + (node_radius + 3) / radius, angle + step - (node_radius + 3) / radius
    neck = max(start, end - head / radius)
    (x1, y1), (x2, y2), (tx, ty) = _polar(start, radius), _polar(neck, radius), _polar(end, radius)
    (ax, ay), (bx, by) = _polar(neck, radius + 0.62 * head), _polar(neck, radius - 0.62 * head)
    return (f"M{x1:.1f} {y1:.1f}A{radius:g} {radius:g} 0 0 1 {x2:.1f} {y2:.1f}",
            f"{ax:.1f},{ay:.1f} {tx:.1f},{ty:.1f} {bx:.1f},{by:.1f}")


def _across(source: tuple[float, float], target: tuple[float, float], node_radius: float, head: float) -> tuple[str, str]:
    """The way to any other node, straight through the circle, as a path and the corners of the arrow's head."""
    along = math.atan2(target[1] - source[1], target[0] - source[0])
    (gap_x, gap_y), (head_x, head_y), (side_x, side_y) = (
        _polar(along, node_radius + 3), _polar(along, head), _polar(along + math.pi / 2, 0.62 * head))
    tx, ty = target[0] - gap_x, target[1] - gap_y
    x2, y2 = tx - head_x, ty - head_y
    return (f"M{source[0] + gap_x:.1f} {source[1] + gap_y:.1f}L{x2:.1f} {y2:.1f}",
            f"{x2 + side_x:.1f},{y2 + side_y:.1f} {tx:.1f},{ty:.1f} {x2 - side_x:.1f},{y2 - side_y:.1f}")


@dataclass(frozen=True)
class Curve:
    """One expert's training loss: a path, and where it ends."""

    seed: str
    path: str
    end: tuple[float, float]
    first: float
    last: float


@dataclass(frozen=True)
class Chart:
    """Curves over common axes. Ticks are (position, value)."""

    width: int
    height: int
    left: int
    bottom: int
    decimals: int  # that the y ticks need
    x_ticks: tuple[tuple[float, float], ...]
    y_ticks: tuple[tuple[float, float], ...]
    curves: tuple[Curve, ...]


def curves(series: Mapping[str, Sequence[tuple[int, float]]], width: int = 760, height: int = 340) -> Chart | None:
    """{seed: [(step, loss)]} as lines over common axes, or None when there is nothing to draw."""
    series = {seed: points for seed, points in series.items() if points}
    if not series:
        return None
    left, right, top, bottom = 62, 30, 16, 44
    steps = [step for points in series.values() for step, _ in points]
    losses = [loss for points in series.values() for _, loss in points]
    y_values, x_values = ticks(min(losses), max(losses)), ticks(min(0, *steps), max(steps))
    low, high = min(y_values[0], *losses), max(y_values[-1], *losses)
    first, last = min(0, *steps), max(*steps, 1)

    def at(step: float, loss: float) -> tuple[float, float]:
        return (
            round(left + (step - first) / (last - first) * (width - left - right), 1),
            round(height - bottom - (loss - low) / ((high - low) or 1) * (height - top - bottom), 1),
        )

    drawn = []
    for seed, points in series.items():
        stride = max(1, math.ceil(len(points) / CURVE_POINTS))
        kept = [*points[:-1:stride], points[-1]]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in (at(*point) for point in kept))
        drawn.append(Curve(seed, path, at(*points[-1]), points[0][1], points[-1][1]))
    decimals = max(0, -math.floor(math.log10(y_values[1] - y_values[0]) + 1e-9))
    return Chart(
        width,
        height,
        left,
        bottom,
        decimals,
        tuple((at(value, low)[0], value) for value in x_values if value <= last),
        tuple((at(first, value)[1], value) for value in y_values),
        tuple(drawn),
    )


@dataclass(frozen=True)
class Cell:
    """A cell of the heat map. `shade` runs from -1 (worst) over 0 (as the base) to 1 (best of the matrix)."""

    value: float | None
    difference: float | None
    shade: float
    best: bool


def heat(
    matrix: Mapping[str, Mapping[str, float]], rows: Sequence[str], columns: Sequence[str]
) -> list[list[Cell]]:
    """Cells by row and column; bits per byte, so the best of a column is its lowest."""
    base = matrix.get("base", {})

    def difference(row: str, column: str) -> float | None:
        value, against = matrix.get(row, {}).get(column), base.get(column)
        return None if value is None or against is None else value - against

    widest = max((abs(difference(row, column) or 0) for row in rows for column in columns), default=0) or 1
    best = {
        column: min((matrix[row][column] for row in rows if column in matrix.get(row, {})), default=None)
        for column in columns
    }
    return [
        [
            Cell(
                value := matrix.get(row, {}).get(column),
                apart := difference(row, column),
                -(apart or 0) / widest,
                value is not None and value == best[column],
            )
            for column in columns
        ]
        for row in rows
    ]


def share(value: float, top: float) -> float:
    """The length of a bar in percent of the longest, never outside 0 to 100."""
    return round(max(0.0, min(100.0, 100 * value / top)), 2) if top > 0 else 0.0


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above `high`."""
    if high <= low:
        high = low + 1
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first, last = math.floor(low / gap + 1e-9), math.ceil(high / gap - 1e-9)
    return [round(number * gap, 10) for number in range(first, last + 1)]


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _polar(angle: float, radius: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _apart(wanted: Iterable[float], gap: float, limit: float) -> list[float]:
    """Heights as near to the wanted ones (ascending) as a gap between them and the limits allow."""
    wanted = list(wanted)
    placed: list[float] = []
    for height in wanted:
        placed.append(height if not placed else max(height, placed[-1] + gap))
    if placed:
        shift = sum(want - got for want, got in zip(wanted, placed, strict=True)) / len(placed)
        placed = [height + shift for height in placed]
    for place in range(len(placed) - 1, -1, -1):
        ceiling = limit if place == len(placed) - 1 else placed[place + 1] - gap
        placed[place] = min(placed[place], ceiling)
    for place in range(len(placed)):
        floor = -limit if place == 0 else placed[place - 1] + min(gap, 2 * limit / max(1, len(placed) - 1))
        placed[place] = max(placed[place], floor)
    return placed


def _two_lines(text: str, width: int) -> tuple[str, ...]:
    return tuple(textwrap.wrap(text, width, max_lines=2, placeholder="…"))
