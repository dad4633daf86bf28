"""The plots of ``stdlib_report.py``'s page, drawn as SVG: plain functions from figures to text.

Each takes the width it is drawn for, because text must not shrink with the picture: the page holds one drawing for
wide windows and one for narrow ones.
"""

from __future__ import annotations

import math
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from stdlib_page import Group

LETTER = 6.7  # mean width of a letter at 12 px


class Box(NamedTuple):
    """A rectangle: its left, top, right and bottom edges."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Area that two boxes share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def distance(self, other: Box) -> float:
        """Between the nearest points of two boxes."""
        width = max(0.0, self.left - other.right, other.left - self.right)
        height = max(0.0, self.top - other.bottom, other.top - self.bottom)
        return math.hypot(width, height)


def treemap(groups: list[Group], width: int) -> str:
    """A rectangle for each group: its area is its lines, its strength how well it is documented."""
    height = 380
    parts = []
    ordered = sorted(groups, key=lambda group: -group.lines)
    for group, box in zip(ordered, divide([group.lines for group in ordered], width, height), strict=True):
        w, h = box.right - box.left, box.bottom - box.top
        told = f"{escape(group.name)}: {group.lines:,} lines, {group.documentation:.0f} % documented"
        parts.append(
            f'<g><title>{told}</title><rect class="a" x="{box.left:.1f}" y="{box.top:.1f}" '
            f'width="{max(0.0, w - 1.5):.1f}" height="{max(0.0, h - 1.5):.1f}" rx="2" '
            f'fill-opacity="{0.12 + 0.006 * group.documentation:.2f}"/>'
        )
        fits = LETTER * len(group.name) + 8 < w and h > 17
        if fits or (0.82 * LETTER * len(group.name) + 6 < w and h > 15):
            at = f'x="{box.left + 4:.1f}"'
            size = "" if fits else " small"
            parts.append(f'<text class="halo{size}" {at} y="{box.top + 14:.1f}">{escape(group.name)}</text>')
            if h > 34 and w > 46:
                parts.append(f'<text class="faint{size}" {at} y="{box.top + 29:.1f}">{group.lines:,}</text>')
        parts.append("</g>")
    return _svg(width, height, parts)


def divide(weights: list[int], width: float, height: float) -> list[Box]:
    """Cut a rectangle into pieces with areas in proportion to falling weights, each as near to a square as it goes."""
    boxes: list[Box] = []
    left = top = 0.0
    rest = list(weights)
    while rest:
        scale = (width - left) * (height - top) / (sum(rest) or 1)
        side = min(width - left, height - top)
        count, worst = 0, math.inf
        # As many go into a row along the shorter side as make its worst piece more like a square.
        while count < len(rest):
            row = [weight * scale for weight in rest[: count + 1]]
            depth = sum(row) / side if side else 0
            shape = max((max(depth * depth / area, area / (depth * depth)) for area in row if area), default=1.0)
            if shape > worst:
                break
            count, worst = count + 1, shape
        row = [weight * scale for weight in rest[:count]]
        depth = sum(row) / side if side else 0
        along = 0.0
        for area in row:
            length = area / depth if depth else 0
            if width - left > height - top:
                boxes.append(Box(left, top + along, left + depth, top + along + length))
            else:
                boxes.append(Box(left + along, top, left + along + length, top + depth))
            along += length
        if width - left > height - top:
            left += depth
        else:
            top += depth
        rest = rest[count:]
    return boxes


def scatter(groups: list[Group], width: int) -> str:
    """Complexity against documentation, every circle with its name."""
    height, left, bottom, top = 470, 46, 44, 24
    most = max((group.complexity for group in groups), default=1) * 1.08
    scale = (30 if width > 600 else 20) / math.sqrt(max((group.lines for group in groups), default=1))
    parts = []
    for percent in range(0, 101, 25):
        y = _at(percent, 100, height - bottom, top)
        parts.append(f'<line class="rule" x1="{left}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft end" x="{left - 6}" y="{y + 4:.1f}">{percent} %</text>')
    for step in range(0, math.floor(most) + 1, max(1, round(most / 8))):
        x = _at(step, most, left, width)
        parts.append(f'<text class="soft middle" x="{x:.1f}" y="{height - bottom + 18}">{step}</text>')
    parts.append(f'<text class="soft end" x="{width}" y="{height - 4}">decisions per function →</text>')
    parts.append('<text class="soft" x="0" y="11">↑ documented</text>')
    circles = []
    for group in sorted(groups, key=lambda g: -g.lines):
        x, y = _at(group.complexity, most, left, width), _at(group.documentation, 100, height - bottom, top)
        circles.append((group, x, y, max(3.0, scale * math.sqrt(group.lines))))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{circles[-1][3]:.1f}"><title>{escape(group.name)}: '
            f"{group.lines:,} lines, {group.documentation:.0f} % documented, "
            f"{group.complexity:.1f} decisions per function</title></circle>"
        )
    frame = Box(left, 14, width, height - bottom + 12)
    names = place([(group.name, x, y, radius) for group, x, y, radius in circles], frame)
    for (group, x, y, radius), box in zip(circles, names, strict=True):
        middle = (box.top + box.bottom) / 2
        near = min(max(x, box.left), box.right)
        distance = math.hypot(near - x, middle - y)
        if distance > radius + 10:
            parts.append(f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{near:.1f}" y2="{middle:.1f}"/>')
        parts.append(f'<text class="halo" x="{box.left:.1f}" y="{middle + 4:.1f}">{escape(group.name)}</text>')
    return _svg(width, height, parts)


def place(points: list[tuple[str, float, float, float]], frame: Box) -> list[Box]:
    """Where names of circles go: on no other name, on as little of other circles as can be, near their own.

    Args:
        points: Name, x, y and radius of each, the most important first.
        frame: Where names may be.
    """
    obstacles = [Box(x - 0.8 * r, y - 0.8 * r, x + 0.8 * r, y + 0.8 * r) for _, x, y, r in points]
    taken: list[Box] = []
    for own, (name, x, y, radius) in enumerate(points):
        wide = LETTER * len(name)
        middles = [(x, y, 0.0)] if wide < 2 * radius else []
        for away in (3.0, 12.0, 24.0, 40.0, 60.0, 85.0):
            for turn in range(16):
                angle = turn * math.pi / 8
                # The edge of the name, not its middle, keeps that distance.
                dx = math.cos(angle) * (radius + away + wide / 2)
                dy = math.sin(angle) * (radius + away + 6)
                middles.append((x + dx, y + dy, away + (2 if math.sin(angle) else 0)))
        best, least = Box(x, y, x + wide, y + 12), math.inf
        for middle_x, middle_y, cost in middles:
            box = Box(middle_x - wide / 2, middle_y - 7, middle_x + wide / 2, middle_y + 7)
            if box.left < frame.left or box.right > frame.right or box.top < frame.top or box.bottom > frame.bottom:
                continue
            if any(box.overlap(other) for other in taken):
                continue
            others = [circle for i, circle in enumerate(obstacles) if i != own]
            cost += 0.35 * sum(box.overlap(circle) for circle in others)
            # A name that is nearer to another circle would be read as that one's.
            near = obstacles[own].distance(box)
            cost += sum(12.0 for circle in others if circle.distance(box) < near + 4)
            if cost < least:
                best, least = box, cost
        taken.append(best)
    return taken


def length_classes(lengths: list[int]) -> list[tuple[str, int, float]]:
    """How many functions have 1, 2, 3-4, 5-8 ... lines: name, number, and number as share of the largest."""
    edges = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1 << 30]
    classes = []
    for low, high in pairwise(edges):
        name = str(high) if high == low + 1 else f"{low + 1}–{high}" if high < 1 << 30 else f"over {low}"
        classes.append((name, sum(low < length <= high for length in lengths)))
    while classes and not classes[-1][1]:
        classes.pop()
    most = max((count for _, count in classes), default=1)
    return [(name, count, count / most) for name, count in classes]


def histogram(lengths: list[int], width: int) -> str:
    """A bar for each class of lengths: upright where there is room for their names, else lying."""
    classes = length_classes(lengths)
    if width < 600:
        return bars([(f"{name} line{'s' * (name != '1')}", count) for name, count, _ in classes], width)
    height, bottom = 210, 26
    step = width / max(1, len(classes))
    parts = []
    for i, (name, count, share) in enumerate(classes):
        top = _at(share, 1, height - bottom, 18)
        middle = (i + 0.5) * step
        parts.append(
            f'<rect class="a" x="{i * step + 3:.1f}" y="{top:.1f}" width="{step - 6:.1f}" rx="2" '
            f'height="{height - bottom - top:.1f}"/>'
            f'<text class="middle" x="{middle:.1f}" y="{top - 5:.1f}">{count:,}</text>'
            f'<text class="middle soft" x="{middle:.1f}" y="{height - 8}">{name}{" line" if i == 0 else ""}</text>'
        )
    return _svg(width, height, parts)


def bars(counts: list[tuple[str, int]], width: int) -> str:
    """Names with a bar for each count."""
    row, left = 22, 106
    most = max((count for _, count in counts), default=1)
    parts = []
    for i, (name, count) in enumerate(counts):
        length = _at(count, most, 1, width - left - 55)
        parts.append(
            f'<text class="end" x="{left - 8}" y="{i * row + 15}">{escape(name)}</text>'
            f'<rect class="a" x="{left}" y="{i * row + 4}" width="{length:.1f}" height="{row - 8}" rx="2"/>'
            f'<text class="soft" x="{left + length + 6:.1f}" y="{i * row + 15}">{count:,}</text>'
        )
    return _svg(width, row * len(counts), parts)


def timeline(spans: list[tuple[int, float, float]], width: int) -> str:
    """When each worker was at which piece; neighbours differ in strength."""
    row, left = 26, 70
    last = max((end for _, _, end in spans), default=1.0)
    workers = sorted({worker for worker, _, _ in spans})
    parts = []
    for i, worker in enumerate(workers):
        parts.append(f'<text class="soft end" x="{left - 8}" y="{i * row + 18}">worker {i + 1}</text>')
        for j, (_, begin, end) in enumerate(sorted(span for span in spans if span[0] == worker)):
            x, to = _at(begin, last, left, width), _at(end, last, left, width)
            parts.append(
                f'<rect class="a" fill-opacity="{(0.9, 0.5)[j % 2]}" x="{x:.1f}" y="{i * row + 4}" '
                f'width="{max(0.6, to - x):.1f}" height="{row - 8}"/>'
            )
    bottom = len(workers) * row + 18
    steps = 10 if width > 600 else 5
    for second in range(0, math.floor(last) + 1, max(1, round(last / steps))):
        x = _at(second, last, left, width)
        place_of = "middle" if x < width - 14 else "end"
        parts.append(f'<text class="soft {place_of}" x="{x:.1f}" y="{bottom}">{second} s</text>')
    return _svg(width, bottom + 6, parts)


def _at(value: float, most: float, low: float, high: float) -> float:
    """Where a value between 0 and ``most`` lies between two coordinates."""
    return low + (high - low) * value / most if most else low


def _svg(width: float, height: float, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img">{"".join(parts)}</svg>'
