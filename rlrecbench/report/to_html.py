"""The leaderboard as one HTML file that needs nothing else: no network, no library, no font."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from rlrecbench.report import words
from rlrecbench.report.captions import empty
from rlrecbench.report.page.boards import SHOWN, boards
from rlrecbench.report.page.cases import cases
from rlrecbench.report.page.curves import curves
from rlrecbench.report.page.exposure import exposure
from rlrecbench.report.page.fronts import tradeoffs
from rlrecbench.report.page.head import head, question
from rlrecbench.report.page.matrix import matrix
from rlrecbench.report.page.orders import agreement
from rlrecbench.report.page.origin import COSTS, Origin
from rlrecbench.report.page.papers import papers
from rlrecbench.report.table import Table
from rlrecbench.results import Results
from rlrecbench.stats import CONFIDENCE


def html(
    results: Results,
    table: Table,
    *,
    published: Mapping[str, Any] | None = None,
    orders: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Write the leaderboard and what lies behind it as one page.

    Args:
        results: The folder that the table was made from.
        table: The leaderboard.
        published: The papers' numbers beside ours, as :func:`rlrecbench.report.published.as_dict` gives them.
        orders: Our order of the methods and the papers', as :func:`rlrecbench.report.order.as_dicts` gives them.

    Raises:
        StoreError: A file is missing or broken.
    """
    source = files("rlrecbench.report.page")
    template, style, script = ((source / f"page.{end}").read_text(encoding="utf-8") for end in ("jinja", "css", "js"))
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    data = content(results, table, published, orders)
    shown = {name: value for name, value in data.items() if name != "script"}
    return page.from_string(template).render(**shown, style=style, code=script, data=_inline(data["script"]))


def content(
    results: Results,
    table: Table,
    published: Mapping[str, Any] | None = None,
    orders: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return all that the page shows; under ``script`` what is drawn or looked up when somebody asks for it."""
    origin = Origin(results, table)
    blocks, details = boards(origin)
    studies = cases(origin)
    studied = {study["dataset"] for study in studies}
    return {
        "suite": table.suite,
        "question": question(origin),
        "facts": head(origin),
        "noun": words.ROW[table.config.rows],
        "block_noun": next(noun for noun in words.ROW.values() if noun != words.ROW[table.config.rows]),
        "primary": table.config.primary,
        "confidence": f"{100 * CONFIDENCE:.0f} %",
        "columns": [{"metric": c.metric, "better": c.better, "arrow": words.ARROW[c.better]} for c in table.columns],
        "costs": [COSTS[name] for name in SHOWN],
        "blocks": blocks,
        "empty": empty(table),
        "exposure": exposure(origin),
        "without_cases": [d for d in dict.fromkeys(b.dataset for b in table.blocks) if d not in studied],
        "curves": curves(origin),
        "across": matrix(table),
        "seeds": list(table.seeds),
        "published": papers(published),
        "orders": agreement(orders),
        "script": {
            "details": details,
            "cells": origin.cells(),
            "tradeoffs": tradeoffs(origin),
            "cases": studies,
        },
    }


def _inline(data: Any) -> str:
    """Write JSON that cannot end the element it stands in."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
