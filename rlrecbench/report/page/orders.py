"""How far our order of the methods agrees with the papers', in the words of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlrecbench.published import Fact
from rlrecbench.report import words
from rlrecbench.report.order import Order, sentence
from rlrecbench.report.page.origin import Json
from rlrecbench.report.published import PAPERS, printed
from rlrecbench.report.ranking import Ranked, Swap
from rlrecbench.stats import Agreement


def agreement(found: Sequence[Mapping[str, Any]] | None) -> list[Json]:
    """One entry per block that has a published row: tau in a sentence, and the two orders side by side.

    Args:
        found: What :func:`rlrecbench.report.order.as_dicts` returns; None: nothing is shown.
    """
    return [_entry(one) for one in map(_order, found or ()) if one.ranked]


def _order(about: Mapping[str, Any]) -> Order:
    ranked = tuple(Ranked(**{**r, "fact": Fact(**r["fact"])}) for r in about["ranked"])
    known = about["agreement"] and Agreement(**about["agreement"])
    return Order(**{**about, "ranked": ranked, "agreement": known, "swaps": tuple(Swap(**s) for s in about["swaps"])})


def _entry(one: Order) -> Json:
    theirs = sorted(one.ranked, key=lambda r: r.published_place)
    return {
        "title": one.title,
        "sentence": sentence(one),
        "paper": PAPERS[one.ranked[0].fact.paper],
        "over": one.over if one.agreement is not None and one.agreement.low is not None else "",
        "twice": list(one.twice),
        "lines": [
            {
                "ours": f"{a.place}. {a.row}",
                "value": words.number(a.mean),
                "theirs": f"{b.published_place}. {b.row}" + ("" if b.row == b.fact.method else f" ({b.fact.method})"),
                "published": printed(b.fact),
            }
            for a, b in zip(one.ranked, theirs, strict=True)
        ],
    }
