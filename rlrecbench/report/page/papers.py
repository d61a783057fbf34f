"""The papers' numbers beside ours, in the words of the page."""

from collections.abc import Mapping
from typing import Any

from rlrecbench.published import Fact
from rlrecbench.report import words
from rlrecbench.report.page.origin import Json
from rlrecbench.report.published import PAPERS, letters, printed


def papers(published: Mapping[str, Any] | None) -> list[Json]:
    """One entry per block: the lines, and under a letter each reason why two numbers do not compare.

    Args:
        published: What :func:`rlrecbench.report.published.as_dict` returns; None: nothing is shown.

    Returns:
        Nothing where no block has a line.
    """
    sections = [] if published is None else published["sections"]
    return [_section(section) for section in sections] if any(section["lines"] for section in sections) else []


def _section(section: Json) -> Json:
    named, shared = letters([[r["text"] for r in line["reasons"]] for line in section["lines"]])
    return {
        "title": section["title"],
        "lines": [_line(line, named) for line in section["lines"]],
        "shared": shared,
        "reasons": [[letter, text] for text, letter in named.items()],
        "rest": list(section["rest"]),
    }


def _line(line: Json, named: Mapping[str, str]) -> Json:
    fact = Fact(**line["fact"])
    interval = line["low"] is not None and line["high"] is not None
    own = f" [{words.number(line['low'])}, {words.number(line['high'])}]" if interval else ""
    share = line["relative"]
    return {
        "row": line["row"],
        "metric": line["metric"],
        "source": f"{fact.method}, {PAPERS[fact.paper]} {fact.table.replace('-', ' ').title()}",
        "ours": words.number(line["mean"]) + own,
        "theirs": printed(fact) + ("*" if fact.significant else ""),
        "difference": f"{line['difference']:+.4f}",
        "relative": words.ABSENT if share is None else f"{100 * share:+.1f} %",
        "within": {True: "yes", False: "no", None: words.ABSENT}[line["within"]],
        "reasons": sorted(named[r["text"]] for r in line["reasons"] if r["text"] in named),
    }
