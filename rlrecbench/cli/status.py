"""``rlrecbench status RESULTS``."""

import json
import time
from pathlib import Path
from typing import Any

import click

from rlrecbench.errors import StoreError

_ALIVE_S = 120.0


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

    table = Table(title=str(results))
    for column in ("cell", "state", "detail"):
        table.add_column(column, overflow="fold")
    style = {"done": "green", "running": "yellow", "failed": "red", "to do": "dim"}
    for row in rows:
        table.add_row(row["cell"], f"[{style[row['state']]}]{row['state']}[/]", escape(row["detail"]))
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
    except (OSError, ValueError, KeyError) as e:
        raise StoreError(
            f"{results} is not a results folder (no readable plan.json); give the folder that 'run' wrote"
        ) from e


def _row(results: Path, store: Path, cell: dict[str, Any], failures: dict[str, dict[str, str]]) -> dict[str, str]:
    dataset, backbone, method, seed = cell["cell"]
    name = f"{dataset}/{backbone}/{method} seed {seed}"
    record = results / "cells" / dataset / backbone / method / f"seed-{seed}" / "metrics.json"
    if record.is_file() and json.loads(record.read_text())["provenance"]["key"] == cell["key"]:
        return {"cell": name, "state": "done", "detail": str(record.parent)}
    for stage in cell["stages"]:
        beat = store / f"{stage['path']}.beat"
        if beat.is_file() and not (store / stage["path"]).is_dir():
            try:
                last = json.loads(beat.read_text())
            except ValueError:
                continue
            age = time.time() - float(last["time"])
            if age < _ALIVE_S:
                share = 100 * last["done"] / last["total"] if last["total"] else 0.0
                return {
                    "cell": name,
                    "state": "running",
                    "detail": f"{stage['label']}: {share:.0f} %, {last['note']}, heard {age:.0f} s ago",
                }
    if name in failures:
        return {
            "cell": name,
            "state": "failed",
            "detail": f"{failures[name]['reason']} (log: {failures[name]['log']})",
        }
    missing = [s["label"] for s in cell["stages"] if not (store / s["path"]).is_dir()]
    return {
        "cell": name,
        "state": "to do",
        "detail": f"next: {missing[0]}" if missing else "to be exported by run",
    }


def _failures(results: Path) -> list[dict[str, str]]:
    path = results / "failures.json"
    found: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return found
