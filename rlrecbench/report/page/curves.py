"""Training curves: loss and validation metrics per row and seed, as drawn lines."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlrecbench.metrics import parse
from rlrecbench.report import words
from rlrecbench.report.captions import title
from rlrecbench.report.page.origin import Json, Origin
from rlrecbench.report.table import Block, Row

Floats = NDArray[np.float64]
POINTS = 120  # at most, per line
WIDTH, HEIGHT = 240, 80  # of the drawing; it is stretched to its place
_VALID = "valid/"


class Line(NamedTuple):
    """One seed's values, [T], at its steps, [T]."""

    seed: int
    step: Floats
    value: Floats


def curves(origin: Origin) -> list[Json]:
    """One entry per block in which anything was trained."""
    blocks = [_block(origin, block, f"b{i}") for i, block in enumerate(origin.table.blocks)]
    return [block for block in blocks if block["rows"]]


def thin(line: Line, most: int = POINTS) -> Line:
    """Keep at most so many points, evenly spaced, the first and the last among them."""
    if len(line.step) <= most:
        return line
    kept = np.unique(np.linspace(0, len(line.step) - 1, most).round().astype(np.int64))
    return Line(line.seed, line.step[kept], line.value[kept])


def _block(origin: Origin, block: Block, name: str) -> Json:
    found = [(row.label, _lines(origin, block, row)) for row in block.rows]
    shared: dict[str, list[Line]] = {}
    for _, panels in found:
        for what, lines in panels.items():
            if what.startswith(_VALID):
                shared.setdefault(what, []).extend(lines)
    rows = [
        {
            "label": label,
            "panels": [_panel(w, lines, shared.get(w, lines), _last(panels)) for w, lines in panels.items()],
        }
        for label, panels in found
        if panels
    ]
    return {"id": name, "dataset": block.dataset, "label": block.label, "title": title(block), "rows": rows}


def _lines(origin: Origin, block: Block, row: Row) -> dict[str, list[Line]]:
    """A row's lines by what they show, the loss first."""
    out: dict[str, list[Line]] = {}
    for seed, record in origin.records(block, row).items():
        log = origin.results.log(record)
        for what in ("loss", *sorted(c for c in log.columns if c.startswith(_VALID))):
            if what in log and "step" in log:
                step, value = (log[c].to_numpy(np.float64) for c in ("step", what))
                known = np.isfinite(step) & np.isfinite(value)
                if known.any():
                    out.setdefault(what, []).append(Line(seed, step[known], value[known]))
    return out


def _last(panels: dict[str, list[Line]]) -> float:
    """The last step of a row, on all of its panels the right end."""
    return float(max(line.step.max() for lines in panels.values() for line in lines))


def _panel(what: str, lines: list[Line], scale: list[Line], last: float) -> Json:
    """One small drawing; ``scale`` are the lines whose range is the vertical one."""
    low = float(min(line.value.min() for line in scale))
    high = float(max(line.value.max() for line in scale))
    return {
        "name": what.removeprefix(_VALID) + (" on validation" if what.startswith(_VALID) else ""),
        "low": words.number(low),
        "high": words.number(high),
        "steps": f"{last:,.0f}",
        "lines": [
            {
                "seed": line.seed,
                "path": _path(thin(line), low, high, last),
                "dot": len(line.step) == 1,
                "text": _outcome(what, line),
            }
            for line in lines
        ],
    }


def _path(line: Line, low: float, high: float, last: float) -> str:
    x = WIDTH * line.step / (last or 1.0)
    y = HEIGHT * (1 - (line.value - low) / ((high - low) or 1.0))
    points = [f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(points if len(points) > 1 else points * 2)


def _outcome(what: str, line: Line) -> str:
    """Where a line ends, or for a validation metric its best value."""
    if not what.startswith(_VALID):
        return f"ends at {words.number(float(line.value[-1]))}"
    higher = parse(what.removeprefix(_VALID)).metric.better == "higher"
    best = int(np.argmax(line.value if higher else -line.value))
    return f"best {words.number(float(line.value[best]))} at step {line.step[best]:,.0f}"
