"""``rlrecbench plan SUITE`` and ``rlrecbench validate SUITE``."""

import json
from typing import Any

import click

from rlrecbench.cli.run import suite_options


@click.command()
@suite_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(suite: str, as_json: bool, **options: Any) -> None:
    """Show a suite's cells and stages, which are done, and what the rest will cost; run nothing."""
    from rich.console import Console
    from rich.table import Table

    from rlrecbench.execute import runner
    from rlrecbench.execute.estimate import estimate
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
    todo = [r for r in rows if not r["done"]]
    if as_json:
        click.echo(json.dumps({"cells": [c.name for c in planned.cells], "stages": rows}, indent=1))
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
    total = sum(costs[s.key].seconds for s in stages if not planned.store.has(s))
    work = sum(costs[s.key].flops for s in stages if not planned.store.has(s))
    memory = max((costs[s.key].memory_mb for s in stages), default=0.0)
    click.echo(
        f"{len(todo)} of {len(rows)} stages to do: about {duration(total)} of one worker's time, "
        f"{work:.1e} FLOPs, {memory / 1024:.1f} GiB a worker"
    )


@click.command()
@suite_options
def validate(suite: str, **options: Any) -> None:
    """Check a suite without training or reading data."""
    from rlrecbench import suite as suites
    from rlrecbench.data.datasets import data_dirs, locate
    from rlrecbench.execute.runner import check_device

    checked = suites.load(suites.find(suite), options["sets"])
    check_device(options["device"])
    for entry in checked.datasets:
        locate(entry.name, data_dirs(options["data_dir"]))
    cells = suites.expand(checked, data_dirs(options["data_dir"]), limit_users=options["limit_users"])
    cells = suites.select(cells, options["only"])
    click.echo(f"{suite}: valid; {len(cells)} cells")
