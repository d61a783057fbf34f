"""The values of the papers' tables, read from ``published.csv``.

Sources: GFlowGR (arXiv 2506.16114, first version), Tables 1 and 2; Flower (arXiv 2503.07377), Tables 3 to 6.
The rows of Flower's Table 6 lost their names in the text at hand; the last one is ``div`` because it repeats Table 4.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True)
class Fact:
    """One printed value.

    Attributes:
        paper: "gflowgr" or "flower".
        table: Such as "table-1".
        dataset: Registered name of the data set.
        backbone: "tiger", "letter", "bigrec-qwen" (1.5B) or "bigrec-qwen-3b"; of SASRec the one of its table.
        method: Name of the row, such as "s-dpo@flower" (continued from Flower) or "flower:reward=add".
        metric: As the table names it, with our cut-off: "hr@5".
        value: As printed.
        significant: Whether the paper stars it against its best baseline; None where a table has no tests.
        half_unit: Half a unit of the last digit printed: the value stands for all that round to it.
    """

    paper: str
    table: str
    dataset: str
    backbone: str
    method: str
    metric: str
    value: float
    significant: bool | None
    half_unit: float


@lru_cache
def facts() -> tuple[Fact, ...]:
    """Return all of them in the file's order."""
    text = (resources.files("rlrecbench.published") / "published.csv").read_text(encoding="utf-8")
    return tuple(_fact(row) for row in csv.DictReader(text.splitlines()))


def find(
    dataset: str | None = None,
    backbone: str | None = None,
    method: str | None = None,
    metric: str | None = None,
    *,
    paper: str | None = None,
    table: str | None = None,
) -> list[Fact]:
    """Return the facts with all of these names, in the file's order; None: any.

    Args:
        dataset: Registered name.
        backbone: Name in the file.
        method: Name in the file.
        metric: Ours or theirs: "recall@5", "hr@5" and "hr@5-string" find the same facts.
        paper: "gflowgr" or "flower".
        table: Such as "table-4".
    """
    wanted = (paper, table, dataset, backbone, method)
    out = []
    for fact in facts():
        have = (fact.paper, fact.table, fact.dataset, fact.backbone, fact.method)
        same = all(w is None or w == h for w, h in zip(wanted, have, strict=True))
        if same and (metric is None or plain_metric(metric) == plain_metric(fact.metric)):
            out.append(fact)
    return out


def plain_metric(name: str) -> str:
    """A metric's name without its variant, and recall for hit rate: "recall@5" for "hr@5-string"."""
    base = name.removesuffix("-string").removesuffix("-compat")
    return f"recall{base.removeprefix('hr')}" if base.startswith("hr@") else base


def _fact(row: dict[str, str]) -> Fact:
    star = row["significant"]
    return Fact(
        paper=row["paper"],
        table=row["table"],
        dataset=row["dataset"],
        backbone=row["backbone"],
        method=row["method"],
        metric=row["metric"],
        value=float(row["value"]),
        significant=star == "1" if star else None,
        half_unit=0.5 * 10 ** -len(row["value"].partition(".")[2]),
    )
