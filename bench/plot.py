"""Small plots side by side, as SVG."""

from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN, COLUMNS = 400, 240, 48, 2
APART = 20  # marks of an axis, to be read
_PANEL = """\
<g transform="translate({left},{top})">
<text x="{middle}" y="20" text-anchor="middle">{title}</text>
<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="#888"/>
{marks}<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>
{dots}</g>
"""


class Panel(NamedTuple):
    """One plot: what it shows, and its points; both axes begin at nought."""

    title: str
    points: list[tuple[float, float]]


def svg(panels: list[Panel]) -> str:
    """Return the picture."""
    rows = -(-len(panels) // COLUMNS)
    drawn = "".join(_drawn(panel, *divmod(i, COLUMNS)) for i, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{COLUMNS * WIDTH}"'
        f' height="{rows * HEIGHT}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{drawn}</svg>\n'
    )


def top(value: float) -> float:
    """Return the least of 1, 2, 2.5, 5, 10, ... (times a power of ten) that is not below this."""
    power = 1e-6
    while True:
        for step in (1, 2, 2.5, 5):
            if step * power >= value:
                return step * power
        power *= 10


def _drawn(panel: Panel, row: int, column: int) -> str:
    x0, y0, x1, y1 = MARGIN, HEIGHT - MARGIN, WIDTH - MARGIN / 2, MARGIN
    most_x = max(x for x, _ in panel.points)
    most_y = top(max(y for _, y in panel.points))
    at = [(x0 + (x1 - x0) * x / most_x, y0 - (y0 - y1) * max(y, 0) / most_y)
          for x, y in panel.points]  # fmt: skip
    marks = "".join(
        f'<text x="{px:.1f}" y="{y0 + 16}" text-anchor="middle">{x:g}</text>\n'
        for (x, _), (px, _), (before, _) in zip(panel.points, at, [(0, 0), *at], strict=False)
        if px - before >= APART
    ) + "".join(
        f'<text x="{x0 - 6}" y="{y0 - (y0 - y1) * share + 4:.1f}" text-anchor="end">'
        f"{most_y * share:g}</text>\n"
        for share in (0, 0.5, 1)
    )
    return _PANEL.format(
        left=column * WIDTH, top=row * HEIGHT, middle=WIDTH / 2, title=escape(panel.title),
        x0=x0, y0=y0, x1=x1, y1=y1, marks=marks,
        line=" ".join(f"{x:.1f},{y:.1f}" for x, y in at),
        dots="".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#06c"/>\n' for x, y in at),
    )  # fmt: skip
