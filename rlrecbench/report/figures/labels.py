"""Names beside points, placed so that they hide neither each other nor a point."""

from collections.abc import Sequence
from itertools import product
from math import copysign, cos, radians, sin

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_ANGLES = (0, 45, 315, 90, 270, 180, 135, 225)  # right of the point first
_DISTANCES = (5.0, 9.0, 15.0, 23.0, 33.0, 45.0, 60.0, 80.0, 105.0)  # points; from the third on a line leads there
_ROOM = 2.5  # points kept free around a point
_SIZE = 6.5  # points
Corners = tuple[float, float, float, float]


def annotate(
    figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str]], lines: Sequence[Corners]
) -> list[Annotation]:
    """Write names beside points; a name for which there is no room at all is left out.

    The figure's layout must be final. Names are placed in the given order, each at the first free place around its
    point.

    Args:
        figure: The figure.
        axes: The axes with the points.
        points: x, y and name; points without a name ("") are kept free all the same.
        lines: Ends x, y, x, y of vertical and horizontal lines; names keep off them where there is room elsewhere.
    """
    scale = figure.dpi / 72
    taken = [_box(axes, (x, y, x, y), _ROOM * scale) for x, y, _ in points]
    bars = [_box(axes, line, 0.5 * scale) for line in lines]
    inside = axes.get_window_extent()
    written = []
    for x, y, name in points:
        if not name:
            continue
        probe = axes.text(x, y, name, fontsize=_SIZE, ha="center", va="center")
        middle = probe.get_window_extent().padded(0.5 * scale)
        probe.remove()
        for hidden, distance, angle in product((taken + bars, taken), _DISTANCES, _ANGLES):
            dx, dy = distance * cos(radians(angle)), distance * sin(radians(angle))
            right, up = (0 if abs(d) < 1 else copysign(1, d) for d in (dx, dy))
            box = middle.translated(dx * scale + right * middle.width / 2, dy * scale + up * middle.height / 2)
            free = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if free and not any(box.overlaps(other) for other in hidden):
                taken.append(box)
                away = (dx + right * middle.width / 2 / scale, dy + up * middle.height / 2 / scale)
                written.append(_write(axes, name, (x, y), away, led=distance > _DISTANCES[1]))
                break
    return written


def _write(axes: Axes, name: str, point: tuple[float, float], away: tuple[float, float], *, led: bool) -> Annotation:
    """Write a name with its middle some points away from its point."""
    line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
    return axes.annotate(
        name,
        point,
        away,
        textcoords="offset points",
        fontsize=_SIZE,
        color="0.1",
        ha="center",
        va="center",
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
        arrowprops=line if led else None,
    )


def _box(axes: Axes, ends: Corners, room: float) -> Bbox:
    """Pixels around a line."""
    (x0, y0), (x1, y1) = axes.transData.transform([ends[:2], ends[2:]])
    return Bbox.from_extents(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)).padded(room)
