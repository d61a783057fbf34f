"""The top of the page: what was run, what it asks, when, with which code."""

from typing import Any

from rlrecbench.report import words
from rlrecbench.report.page.origin import Origin


def head(origin: Origin) -> list[list[str]]:
    """Facts about the suite and its cells, as names and values."""
    results, table = origin.results, origin.table
    axes = results.axes(table.config.rows)
    of_row = words.ROW[table.config.rows]
    of_block = next(noun for noun in words.ROW.values() if noun != of_row)
    done, failed = len(results.records), len(results.failures)
    facts = [
        ["data sets", ", ".join(results.datasets)],
        [f"{of_row}s", ", ".join(axes.rows)],
        [f"{of_block}s", ", ".join(axes.blocks)],
        ["seeds", ", ".join(map(str, table.seeds))],
        ["cells", f"{done:,} done" + (f", {failed:,} failed" if failed else "")],
        ["measured", _span([str(d)[:10] for d in _known(origin, "date")])],
        ["code", ", ".join(dict.fromkeys(str(c)[:12] + str(c)[40:] for c in _known(origin, "commit")))],
        ["device", ", ".join(map(str, _known(origin, "device")))],
    ]
    return [fact for fact in facts if fact[1]]


def question(origin: Origin) -> str:
    """What the suite asks."""
    config = origin.table.config
    noun = words.ROW[config.rows]
    baselines = list(dict.fromkeys(b.baseline for b in origin.table.blocks if b.baseline))
    against = f"{baselines[0]}" if len(baselines) == 1 else "its block's baseline"
    if not baselines:
        return f"How do the {noun}s rank the held-out items, by {config.primary}?"
    return f"Which {noun}s rank the held-out items better than {against}, by {config.primary}?"


def _known(origin: Origin, name: str) -> list[Any]:
    """The different values in the cells' provenance, sorted."""
    return sorted({r.provenance[name] for r in origin.results.records if r.provenance.get(name)})


def _span(dates: list[str]) -> str:
    distinct = sorted(set(dates))
    return "" if not distinct else distinct[0] if len(distinct) == 1 else f"{distinct[0]} to {distinct[-1]}"
