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

    data = next((d for d in data_dirs(data_dir) if (d / "beauty").is_dir()), None)
    found = run(only, data, repeats, plugin)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for row in found["benchmarks"]:
        click.echo(
            f"{row['name']}: {row['ours_s']:.3f} s, {row['reference']} {row['reference_s']:.3f} s, "
            f"ratio {row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}), "
            f"{'equal results' if row['equal'] else 'RESULTS DIFFER'}"
        )
