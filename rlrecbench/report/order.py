"""How far our order of the methods agrees with the papers', in words: markdown, CSV and JSON."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rlrecbench.report import words
from rlrecbench.report.published import PAPERS, printed
from rlrecbench.report.ranking import Order, order
from rlrecbench.report.to_markdown import escape

__all__ = ["FORMATS", "Order", "as_dicts", "order", "order_csv", "order_markdown", "sentence"]


def order_markdown(orders: Sequence[Order]) -> str:
    """Write the agreement as markdown: tau in a sentence, the two orders side by side, and what is swapped."""
    parts = ["# Our order of the methods and the papers'"]
    for one in orders:
        parts += [f"## {escape(one.title)}", sentence(one)]
        if one.agreement is not None:
            parts += [_grid(one), "  \n".join(_notes(one))]
    return "\n\n".join(p for p in parts if p) + "\n"


def sentence(one: Order) -> str:
    """Say how far the orders agree: "ndcg@5: tau .62 [.33, .81] over 9 methods, p = 0.012; 3 seeds."."""
    a = one.agreement
    if a is None or a.tau is None:
        return f"{one.metric}: {one.remark}" if one.metric else one.remark
    ends = f" [{_short(a.low)}, {_short(a.high)}]" if a.low is not None and a.high is not None else ""
    p = f", p {'' if a.p < 0.001 else '= '}{words.p_value(a.p)}" if a.p is not None else ""
    seeds = "one seed" if len(one.seeds) == 1 else f"{len(one.seeds)} seeds"
    return f"{one.metric}: tau {_short(a.tau)}{ends} over {a.methods} methods{p}; {seeds}."


def _short(value: float) -> str:
    """Two decimals without the leading zero."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"


def _grid(one: Order) -> str:
    theirs = sorted(one.ranked, key=lambda r: r.published_place)
    out = [["ours", "value", PAPERS[one.ranked[0].fact.paper], "value"], ["---", "---:", "---", "---:"]]
    for a, b in zip(one.ranked, theirs, strict=True):
        own = f"{a.place}. {escape(a.row)}"
        other = f"{b.published_place}. {escape(b.row)}" + (
            "" if b.row == b.fact.method else f" ({escape(b.fact.method)})"
        )
        out.append([own, words.number(a.mean), other, printed(b.fact)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in out)


def _notes(one: Order) -> list[str]:
    out = []
    if one.swaps:
        below: dict[str, list[str]] = {}
        for swap in one.swaps:
            below.setdefault(swap.better, []).append(escape(swap.worse) + (r"\*" if swap.told_apart else ""))
        pairs = "; ".join(f"{escape(row)} above {', '.join(others)}" for row, others in below.items())
        out.append(f"The other way round in the paper: {pairs}.")
        if any(swap.told_apart for swap in one.swaps):
            out.append(r"\* our corrected test tells the two apart; it only looks at pairs with the baseline.")
    else:
        out.append("No pair stands the other way round in the paper.")
    if one.over:
        out.append(f"Interval: 95 %, over our {one.over}; the published values are taken as they are.")
    if one.twice:
        out.append(f"Left out, as another row is closer to the same published one: {escape(', '.join(one.twice))}.")
    return out


def order_csv(orders: Sequence[Order]) -> str:
    """Write the agreement as CSV: one line per block and row, tau repeated."""
    heads = [
        "block",
        "metric",
        "tau",
        "low",
        "high",
        "over",
        "p",
        "methods",
        "seeds",
        "row",
        "published_as",
        "paper",
        "table",
    ]
    heads += ["mean", "place", "published", "published_place", "remark"]
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(heads)
    for one in orders:
        a = one.agreement
        tau = (a.tau, a.low, a.high, one.over, a.p, a.methods) if a is not None else (None,) * 6
        begin = [one.title, one.metric, *tau, len(one.seeds)]
        for r in one.ranked:
            f = r.fact
            cells = [r.row, f.method, f.paper, f.table, r.mean, r.place, f.value, r.published_place, one.remark]
            lines.writerow([*begin, *cells])
        if not one.ranked:
            lines.writerow([*begin, *[""] * 8, one.remark])
    return out.getvalue()


def as_dicts(orders: Sequence[Order]) -> list[dict[str, Any]]:
    """The agreement as JSON values; null stands for what is not known."""
    out = []
    for one in orders:
        made = asdict(one)
        made["ranked"] = [{**r._asdict(), "fact": asdict(r.fact)} for r in one.ranked]
        made["swaps"] = [s._asdict() for s in one.swaps]
        out.append(made)
    return out


FORMATS: dict[str, Callable[[Sequence[Order]], str]] = {"md": order_markdown, "csv": order_csv}
