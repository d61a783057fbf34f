"""``rlrecbench report RESULTS``."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=click.Choice(["md", "csv", "latex", "html", "json"]),
    multiple=True,
    help="Repeatable.  [default: md]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to write to instead of standard output; for several RESULTS one in it for each.",
)
@click.option("--figures", is_flag=True, help="Draw figures too, as PDF and PNG, under --out.")
@click.option("--metrics", default="", help="Metrics to show, separated by commas.  [default: the suite's]")
@click.option(
    "--rows",
    type=click.Choice(["methods", "backbones"]),
    help="What is compared: methods on each backbone, or backbones under each method.  [default: the suite's]",
)
@click.option(
    "--baseline", help="Label of the row to compare with; best: the best on validation.  [default: the suite's]"
)
@click.option(
    "--test",
    type=click.Choice(["two-way", "t-seeds", "t-users", "permutation", "bootstrap", "bca", "wilcoxon"]),
    help="[default: the suite's]",
)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="[default: the suite's]")
@click.option("--published", is_flag=True, help="Put the papers' numbers beside ours, with the difference.")
@click.option("--compare-order", "order", is_flag=True, help="Compare our order of the methods with the papers'.")
@click.option(
    "--layout",
    help="LaTeX: datasets, ablation, aspects or starts.  [default: datasets; with --out all that apply]",
)
@click.option("--std/--no-std", default=True, help="LaTeX: standard deviations over seeds.  [default: --std]")
def report(results: tuple[Path, ...], out: Path | None, figures: bool, metrics: str, **options: Any) -> None:
    """Make the tables from the records on disk, without torch; of several folders one after another."""
    from rlrecbench.errors import ConfigError

    if figures and out is None:
        raise ConfigError("--figures writes files; say where with --out FOLDER")
    chosen = [m.strip() for m in metrics.split(",") if m.strip()]
    names = [folder.resolve().name for folder in results]
    if out is not None and len({*names}) < len(names):
        raise ConfigError(f"--out: two of the folders are called {max(names, key=names.count)}; report them one by one")
    for folder, name in zip(results, names, strict=True):
        place = out / name if out is not None and len(results) > 1 else out
        _report(folder, place, figures, chosen, **options)


def _report(
    results: Path, out: Path | None, figures: bool, chosen: list[str], formats: tuple[Any, ...], **rest: Any
) -> None:
    from rich.console import Console

    from rlrecbench.report import Extras, Report, write
    from rlrecbench.results import load

    extras = Extras(**{name: rest.pop(name) for name in ("layout", "std", "published", "order")})
    with Console(stderr=True).status("comparing rows ..."):
        made = Report.of(load(results), chosen, {k: v for k, v in rest.items() if v is not None}, extras)
    if out is None:
        for text in [made.text(form) for form in formats or ("md",)]:
            click.echo(text, nl=False)
    else:
        texts = [made.texts(form, extras.layout) for form in formats or ("md",)]
        for path in write({name: text for some in texts for name, text in some.items()}, out):
            click.echo(path, err=True)
    if figures and out is not None:
        from rlrecbench.report.figures import draw_figures

        for path in draw_figures(made.results, made.table, out / "figures"):
            click.echo(path, err=True)
