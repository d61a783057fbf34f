"""``rlrecbench status RESULTS``."""

import json
import time
from pathlib import Path
from typing import Any

import click

from rlrecbench.errors import StoreError

_ALIVE_S = 120.0
_BROKEN = (OSError, ValueError, KeyError, TypeError, RecursionError)  # what reading a damaged file raises


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(results: Path, as_json: bool) -> None:
    """Show which cells are done, running, failed or still to do."""
    rows = read_status(results)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(str(results)))
    for column in ("cell", "state", "detail"):
        table.add_column(column, overflow="fold")
    style = {"done": "green", "running": "yellow", "failed": "red", "to do": "dim"}
    for row in rows:
        table.add_row(escape(row["cell"]), f"[{style[row['state']]}]{row['state']}[/]", escape(row["detail"]))
    Console().print(table)
    counts = {state: sum(r["state"] == state for r in rows) for state in style}
    click.echo(", ".join(f"{n} {state}" for state, n in counts.items() if n))


def read_status(results: Path) -> list[dict[str, str]]:
    """Read the state of every planned cell.

    Raises:
        StoreError: It is not a results folder.
    """
    try:
        plan = json.loads((results / "plan.json").read_text())
        failures = {f["cell"]: f for f in _failures(results)}
        return [_row(results, Path(plan["store"]), cell, failures) for cell in plan["cells"]]
    except _BROKEN as e:
        raise StoreError(
            f"{results} is not a results folder (no readable plan.json); give the folder that 'run' wrote"
        ) from e


def _row(results: Path, store: Path, cell: dict[str, Any], failures: dict[str, dict[str, str]]) -> dict[str, str]:
    dataset, backbone, method, seed = cell["cell"]
    name = f"{dataset}/{backbone}/{method} seed {seed}"
    record = results / "cells" / dataset / backbone / method / f"seed-{seed}" / "metrics.json"
    if _key(record) == cell["key"]:
        return {"cell": name, "state": "done", "detail": str(record.parent)}
    missing = [s for s in cell["stages"] if not (store / s["path"] / "stage.json").is_file()]
    for stage in missing:
        if (last := _heard(store / f"{stage['path']}.beat")) is not None:
            return {"cell": name, "state": "running", "detail": f"{stage['label']}: {last}"}
    if name in failures:
        return {
            "cell": name,
            "state": "failed",
            "detail": f"{failures[name]['reason']} (log: {failures[name]['log']})",
        }
    detail = f"next: {missing[0]['label']}" if missing else "to be exported by run"
    return {"cell": name, "state": "to do", "detail": detail}


def _key(record: Path) -> str | None:
    """The stage that a record was made from; None if there is no record, or none that can be read."""
    try:
        return str(json.loads(record.read_text())["provenance"]["key"])
    except _BROKEN:
        return None


def _heard(beat: Path) -> str | None:
    """What a stage at work said last; None if it is not at work, or was not heard of for two minutes.

    The clock may have been set, or be another machine's: what comes from the near future was heard just now, and
    what comes from the far future was said before the clock was set, so nothing is known.
    """
    try:
        last = json.loads(beat.read_text())
        age = time.time() - float(last["time"])
        share = 100 * last["done"] / last["total"] if last["total"] else 0.0
        note = f"{share:.0f} %, {last['note']}, heard {max(age, 0.0):.0f} s ago"
    except _BROKEN:
        return None
    return note if abs(age) < _ALIVE_S else None


def _failures(results: Path) -> list[dict[str, str]]:
    path = results / "failures.json"
    found: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return found
