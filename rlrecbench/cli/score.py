"""``rlrecbench score RECS --dataset NAME``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rlrecbench.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@click.argument("recs", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, help="Name of the data set.")
@click.option("--k", "cutoffs", default="5,10", show_default=True, help="Cut-offs, separated by commas.")
@click.option(
    "--credit",
    type=click.Choice(["item", "string"]),
    default="item",
    show_default=True,
    help="string: any item with the target's title or code is a hit, as in the papers.",
)
@click.option("--max-history", type=click.IntRange(1), help="As in the suite; popularity groups depend on it.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of data sets, looked at first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(
    recs: Path,
    dataset: str,
    cutoffs: str,
    credit: Literal["item", "string"],
    max_history: int | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Compute every metric for any recommender's lists (tsv, csv or parquet: user_id, rank, item_id)."""
    parts = [p.strip() for p in cutoffs.split(",")]
    if not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise ConfigError(f"--k {cutoffs}: write positive numbers separated by commas, such as 5,10")
    found = score_lists(recs, dataset, [int(p) for p in parts], data_dir, credit=credit, max_history=max_history)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{recs} on {dataset}")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in found["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
    notes = ", ".join(f"{k}: {v}" for k, v in found["audit"].items())
    click.echo(f"audit: {notes}", err=True)


def score_lists(
    recs: "str | Path | pd.DataFrame",
    dataset: str,
    k: Sequence[int],
    data_dir: Path | None,
    *,
    credit: Literal["item", "string"] = "item",
    max_history: int | None = None,
) -> dict[str, Any]:
    """Score lists against a data set's test part: {"metrics": ..., "audit": ...}.

    Raises:
        DataError: The lists or the data set are wrong.
    """
    from rlrecbench.data.datasets import data_dirs
    from rlrecbench.data.prepare import DataOptions, prepare
    from rlrecbench.metrics import score as score_them
    from rlrecbench.metrics import standard

    data = prepare(dataset, DataOptions(max_history=max_history), data_dirs(data_dir))
    found: dict[str, Any] = score_them(recs, data, standard(k, credit))
    return found
