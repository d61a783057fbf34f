"""How often each popularity group is recommended, beside how often it occurs in the histories."""

import numpy as np
from numpy.typing import NDArray

from rlrecbench.metrics import parse
from rlrecbench.report.captions import title
from rlrecbench.report.page.origin import Json, Origin
from rlrecbench.report.shares import group_shares
from rlrecbench.report.table import Block

Floats = NDArray[np.float64]


def exposure(origin: Origin) -> list[Json]:
    """One entry per block: shares of the groups in the lists, means over seeds, or why there are none."""
    known: dict[str, Floats | None] = {}
    k = parse(origin.table.config.primary).k
    for record in origin.results.records:
        known[record.name] = group_shares(origin.results, record, k)
    return [_block(origin, block, f"b{i}", k, known) for i, block in enumerate(origin.table.blocks)]


def _block(origin: Origin, block: Block, name: str, k: int, known: dict[str, Floats | None]) -> Json:
    entry: Json = {"id": name, "dataset": block.dataset, "label": block.label, "title": title(block), "k": k}
    entry |= {"why": "", "without": [], "top": "", "history": [], "rows": []}
    reference = origin.results.reference(block.dataset)
    if reference is None:
        return {**entry, "why": f"the results folder does not hold the catalogue of {block.dataset}"}
    rows: list[tuple[str, Floats]] = []
    for row in block.rows:
        records = origin.records(block, row).values()
        found = [shares for r in records if (shares := known[r.name]) is not None]
        if found:
            rows.append((row.label, np.mean(found, axis=0)))
        elif records:
            entry["without"].append(row.label)
    if not rows:
        return {**entry, "why": "no row recommends an item of the catalogue"}
    history = np.asarray(reference.group_share)
    top = max(float(history.max()), *(float(shares.max()) for _, shares in rows))
    return {
        **entry,
        "top": _percent(top),
        "history": _group(history, history, top),
        "rows": [{"label": label, "groups": _group(shares, history, top)} for label, shares in rows],
    }


def _group(shares: Floats, history: Floats, top: float) -> list[Json]:
    """Each group's share in words, and the heights of its bar and of its mark as parts of the tallest, in percent."""
    return [
        {"text": _percent(share), "bar": round(100 * share / top, 1), "mark": round(100 * usual / top, 1)}
        for share, usual in zip(shares.tolist(), history.tolist(), strict=True)
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
