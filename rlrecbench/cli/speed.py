"""``rlrecbench bench``."""

import json
from pathlib import Path

import click


@click.command()
@click.option("--only", default="", help="Run the benchmarks whose names begin with this, such as search/ or step/dpo.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of data sets, looked at first.",
)
@click.option("--plugin", type=click.Path(path_type=Path), multiple=True, help="A file with further methods.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(only: str, repeats: int, data_dir: Path | None, plugin: tuple[Path, ...], as_json: bool) -> None:
    """Measure speed on this machine against the obvious alternative, side by side, as ratios.

    For a method's training step (step/) the ratio is the cost: how many sft steps it takes; elsewhere the gain.
    """
    from rlrecbench.bench import run
    from rlrecbench.data.datasets import data_dirs

    dirs = data_dirs(data_dir)
    data = next((d for name in ("beauty", "movies_and_tv") for d in dirs if (d / name).is_dir()), None)
    found = run(only, data, repeats, plugin, say=lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    peak = found["machine"].get("matmul_gflops", {})
    speeds = ", ".join(f"{speed:g} GFLOP/s in {kind}" for kind, speed in peak.items())
    table = Table(
        title=f"{found['machine'].get('cores')} cores; matrix products: {speeds}", title_justify="left",
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("benchmark", no_wrap=True)
    for column in ("ours s", "theirs s", "ratio", "spread", "of peak", "equal"):
        table.add_column(column, justify="right")
    against: dict[str, list[str]] = {}
    for row in found["benchmarks"]:
        share = row["peak_share"]
        table.add_row(
            row["name"],
            f"{row['ours_s']:.3f}",
            f"{row['reference_s']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}",
            f"{share:.0%}" if share else "",
            "yes" if row["equal"] else "[red]NO[/]",
        )
        against.setdefault(row["reference"], []).append(row["name"])
    console = Console()
    console.print(table)
    console.print(f"On: {'; '.join(found['data'])}.", highlight=False)
    console.print("Theirs:")
    for reference, names in against.items():
        console.print(f"  {', '.join(names)}: {reference}", highlight=False)
