"""``rlrecbench data``: list, info, verify."""

import json
from pathlib import Path

import click

_DIR = click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of data sets, looked at first.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def data() -> None:
    """Look at data sets: where they are, their statistics beside the published ones, their checksums."""


@data.command("list")
@_DIR
@_JSON
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the data sets and where they are found."""
    from rlrecbench.data.datasets import data_dirs, datasets, locate
    from rlrecbench.errors import DataError

    rows = []
    for entry in datasets:
        try:
            place = str(locate(entry.name, data_dirs(data_dir)))
        except DataError:
            place = "not found"
        rows.append({"name": entry.name, "summary": entry.summary, "place": place})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(f"{row['name']:<14} {row['summary']}  [{row['place']}]")


@data.command()
@click.argument("name")
@_DIR
@_JSON
def info(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Show a data set's statistics beside the published ones."""
    from rlrecbench.data.datasets import data_dirs
    from rlrecbench.data.statistics import info as statistics

    found = statistics(name, data_dirs(data_dir))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name} ({found.get('protocol', '')})")
    for column in ("statistic", "computed", "published", ""):
        table.add_column(column, justify="right" if column in ("computed", "published") else "left")
    for key, row in found["statistics"].items():
        agrees = {True: "equal", False: "[red]differs[/]"}.get(row.get("match"), "")
        table.add_row(key, _number(row["computed"]), _number(row.get("published")), agrees)
    Console().print(table)


@data.command()
@click.argument("name")
@_DIR
@_JSON
def verify(name: str, data_dir: Path | None, as_json: bool) -> int:
    """Compare a data set's files with their checksums, and its statistics with the published ones."""
    from rlrecbench.data.datasets import data_dirs
    from rlrecbench.data.statistics import verify as verdicts

    rows = verdicts(name, data_dirs(data_dir))
    if as_json:
        click.echo(json.dumps([r._asdict() for r in rows], indent=1))
    else:
        for row in rows:
            mark = click.style("held  ", fg="green") if row.ok else click.style("BROKEN", fg="red", bold=True)
            click.echo(f"{mark}  {row.file}: {row.detail}")
    return 0 if all(r.ok for r in rows) else 4


def _number(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if isinstance(value, float) else str(value)
