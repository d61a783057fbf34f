"""``rlrecbench report RESULTS``."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=click.Choice(["md", "csv", "json"]),
    multiple=True,
    help="Repeatable.  [default: md]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to instead of standard output.")
@click.option("--metrics", default="", help="Metrics to show, separated by commas.  [default: the suite's]")
@click.option(
    "--rows",
    type=click.Choice(["methods", "backbones"]),
    help="What is compared: methods on each backbone, or backbones under each method.  [default: the suite's]",
)
@click.option("--baseline", help="Label of the row to compare with.  [default: the suite's]")
@click.option(
    "--test",
    type=click.Choice(["two-way", "t-seeds", "t-users", "permutation", "bootstrap"]),
    help="[default: the suite's]",
)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="[default: the suite's]")
def report(results: Path, formats: tuple[str, ...], out: Path | None, metrics: str, **stats: Any) -> None:
    """Make the tables from the records on disk, without torch."""
    from rlrecbench.report import render
    from rlrecbench.results import load

    found = load(results)
    chosen = [m.strip() for m in metrics.split(",") if m.strip()]
    changes = {k: v for k, v in stats.items() if v is not None}
    for name in formats or ("md",):
        text = render(found, name, metrics=chosen, changes=changes)
        if out is None:
            click.echo(text, nl=False)
        else:
            from rlrecbench.store import write_atomic

            write_atomic(out / f"leaderboard.{name}", text)
            click.echo(f"{out / f'leaderboard.{name}'}", err=True)
