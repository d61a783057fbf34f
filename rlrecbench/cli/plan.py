"""``rlrecbench plan SUITE`` and ``rlrecbench validate SUITE``."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from rlrecbench.cli.run import suite_options

if TYPE_CHECKING:
    from rich.table import Table

    from rlrecbench.execute.detectable import Detectable
    from rlrecbench.stats import Correction, StatsConfig


_LEVELS: "dict[Correction, str]" = {
    "holm": "{} / compared (Holm's first step)",
    "bh": "{} / compared (Benjamini and Hochberg's first step; at most these, as later ones find smaller differences)",
    "none": "{}, uncorrected",
}


@click.command()
@suite_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(suite: str, as_json: bool, **options: Any) -> None:
    """Show a suite's cells and stages, which are done, and what the rest will cost and can find; run nothing."""
    from rich.console import Console
    from rich.table import Table

    from rlrecbench.config import plain
    from rlrecbench.execute import runner
    from rlrecbench.execute.detectable import detectable
    from rlrecbench.execute.estimate import duration_of, estimate
    from rlrecbench.execute.progress import duration
    from rlrecbench.store import closure

    planned = runner.plan(suite, runner.Options(**options))
    stages = closure(planned.ends(planned.cells))
    costs = estimate(stages, planned.store)
    rows = [
        {
            "stage": s.label,
            "key": s.key[:12],
            "done": planned.store.has(s),
            "flops": costs[s.key].flops,
            "seconds": costs[s.key].seconds,
            "memory_mb": costs[s.key].memory_mb,
        }
        for s in stages
    ]
    effects = detectable(planned)
    todo = [r for r in rows if not r["done"]]
    if as_json:
        found = {"cells": [c.name for c in planned.cells], "stages": rows, "detectable": plain(effects)}
        click.echo(json.dumps(found, indent=1))
        return
    table = Table(title=f"{planned.suite.name}: {len(planned.cells)} cells, {len(stages)} stages")
    for column in ("stage", "key", "state", "FLOPs", "time"):
        table.add_column(column)
    for r in rows:
        state = "done" if r["done"] else "to do"
        flops = f"{r['flops']:.1e}" if r["flops"] else ""
        table.add_row(
            str(r["stage"]),
            str(r["key"]),
            state,
            flops,
            "" if r["done"] else duration(float(str(r["seconds"]))),
        )
    Console().print(table)
    missing = [s for s in stages if not planned.store.has(s)]
    total, chain = (duration_of(missing, costs, n) for n in (1, max(1, len(missing))))
    work = sum(costs[s.key].flops for s in missing)
    memory = max((costs[s.key].memory_mb for s in stages), default=0.0)
    click.echo(
        f"{len(todo)} of {len(rows)} stages to do: about {duration(total)} of one worker's time, "
        f"no less than {duration(chain)} with many, "
        f"{work:.1e} FLOPs, {memory / 1024:.1f} GiB a worker"
    )
    Console().print(_differences(effects, planned.suite.stats))
    for note in notes(effects, planned.suite.stats):
        click.echo(note)


def _differences(effects: "Sequence[Detectable]", config: "StatsConfig") -> "Table":
    """Draw the smallest difference that each block can find."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    against = ", ".join(dict.fromkeys(e.baseline for e in effects if e.baseline)) or "the baseline"
    table = Table(
        title=Text(f"\nSmallest difference from {against} in {config.primary} that the suite can find"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("block")
    for column in ("users", "seeds", "compared", "mean", "smallest", "of the mean"):
        table.add_column(column, justify="right")
    for e in effects:
        users = f"{e.users:,}" if e.users is not None else "unknown"
        mean = f"{e.mean:.4f}" if e.mean is not None else ""
        found = ["none", ""] if e.absolute is None else [f"{e.absolute:.4f}", ""]
        found[1] = f"{100 * e.relative:.1f} %" if e.relative is not None else ""
        table.add_row(f"{e.dataset} · {e.label}", users, str(e.seeds), str(e.comparisons), mean, *found)
    return table


def notes(effects: "Sequence[Detectable]", config: "StatsConfig") -> list[str]:
    """Say how the smallest differences were found, and why there is none."""
    out = []
    if any(e.absolute is not None for e in effects):
        out.append(
            f"Found with {100 * effects[0].power:.0f} % probability by the two-way test at "
            f'{_LEVELS[config.correction].format(f"{config.alpha:g}")}; smaller ones mostly end as "cannot tell".'
        )
        if config.test != "two-way":
            out.append(f"The suite compares with {config.test}; what that finds is not computed.")
    for attribute, what in (("remark", "no smallest difference"), ("source", "mean and variances")):
        said: dict[str, list[str]] = {}
        for e in effects:
            if getattr(e, attribute) and (attribute == "remark" or e.absolute is not None):
                said.setdefault(getattr(e, attribute), []).append(f"{e.dataset} · {e.label}")
        for text, blocks in said.items():
            where = "" if len(blocks) == len(effects) else f" of {', '.join(blocks)}"
            out.append(f"{what[0].upper()}{what[1:]}{where}: {text}.")
    return out


@click.command()
@suite_options
def validate(suite: str, **options: Any) -> None:
    """Check a suite without training or reading data."""
    from rlrecbench import suite as suites
    from rlrecbench.data.datasets import data_dirs
    from rlrecbench.execute.runner import check_device

    checked = suites.load(suites.find(suite), options["sets"])
    check_device(options["device"], checked.pace.processes)
    cells = suites.expand(checked, data_dirs(options["data_dir"]), limit_users=options["limit_users"])
    cells = suites.select(cells, options["only"])
    click.echo(f"{suite}: valid; {len(cells)} cells")
