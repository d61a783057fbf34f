"""How often each popularity group is recommended, beside how often it occurs in the histories."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rlrecbench.data.frame import Ints
from rlrecbench.data.groups import GROUPS
from rlrecbench.report.captions import title
from rlrecbench.report.page.origin import Json, Origin
from rlrecbench.results import Record

Floats = NDArray[np.float64]


def exposure(origin: Origin) -> list[Json]:
    """One entry per block whose data set's catalogue is in the folder: shares of the groups, means over seeds."""
    known: dict[str, tuple[Floats, int]] = {}
    return [entry for i in range(len(origin.table.blocks)) if (entry := _block(origin, i, known)) is not None]


def _block(origin: Origin, index: int, known: dict[str, tuple[Floats, int]]) -> Json | None:
    block = origin.table.blocks[index]
    reference, items = origin.results.reference(block.dataset), origin.results.items(block.dataset)
    if reference is None or items is None:
        return None
    number, group_of = pd.Index(items["item_id"]), items["group"].to_numpy(np.int64)
    rows: list[tuple[str, Floats]] = []
    depth = 0
    for row in block.rows:
        records = list(origin.records(block, row).values())
        for record in records:
            if record.name not in known:
                known[record.name] = _shares(origin, record, number, group_of)
            depth = max(depth, known[record.name][1])
        if records:
            rows.append((row.label, np.mean([known[r.name][0] for r in records], axis=0)))
    history = np.asarray(reference.group_share)
    top = max(float(history.max()), *(float(shares.max()) for _, shares in rows))
    return {
        "id": f"b{index}",
        "dataset": block.dataset,
        "label": block.label,
        "title": title(block),
        "k": depth,
        "top": _percent(top),
        "history": _group(history, history, top),
        "rows": [{"label": label, "groups": _group(shares, history, top)} for label, shares in rows],
    }


def _shares(origin: Origin, record: Record, number: "pd.Index[Any]", group_of: Ints) -> tuple[Floats, int]:
    """Shares of the groups in a cell's lists, [8], and the lists' depth.

    The same as ``Results.lists`` and ``Lists.exposure`` give, without numbering every entry of every list.
    """
    ranked = origin.results.ranked(record)
    counts = ranked["item_id"].value_counts()
    item = number.get_indexer(counts.index)
    groups = np.bincount(group_of[item[item >= 0]], counts.to_numpy()[item >= 0], minlength=GROUPS)
    return groups / max(groups.sum(), 1), int(ranked["rank"].max()) if len(ranked) else 0


def _group(shares: Floats, history: Floats, top: float) -> list[Json]:
    """Each group's share in words, and the heights of its bar and of its mark as parts of the tallest, in percent."""
    return [
        {"text": _percent(share), "bar": round(100 * share / top, 1), "mark": round(100 * usual / top, 1)}
        for share, usual in zip(shares.tolist(), history.tolist(), strict=True)
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
