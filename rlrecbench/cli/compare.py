"""``rlrecbench compare RESULTS A B`` and ``rlrecbench compare RESULTS OTHER_RESULTS``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from rlrecbench.report.comparing import Side
    from rlrecbench.results import Results

WIDTH = 100  # characters where the output is no terminal


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.argument("others", nargs=-1, required=True, metavar="A B | OTHER_RESULTS")
@click.option("--metrics", default="", help="Separated by commas.  [default: the suite's; of two folders all]")
@click.option("--seeds", default="", help="Separated by commas.  [default: all that both have]")
@click.option("--only", multiple=True, metavar="KEY=VALUE[,VALUE]", help="dataset, backbone or method of the block.")
@click.option("--by", default="", help="Who gained and who lost: group, history or both.")
@click.option("--on", metavar="METRIC", help="Metric for --by.  [default: the suite's primary one]")
@click.option(
    "--rows",
    type=click.Choice(["methods", "backbones"]),
    help="What A and B are: methods, or backbones.  [default: the suite's]",
)
@click.option(
    "--test",
    type=click.Choice(["two-way", "t-seeds", "t-users", "permutation", "bootstrap", "bca", "wilcoxon"]),
    help="[default: the suite's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(results: Path, others: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compare two rows metric by metric, or two results folders cell by cell.

    A and B are labels of methods (of backbones with --rows backbones). OTHER_RESULTS:B takes B from another folder.
    """
    from rlrecbench.results import load

    if len(others) > 2:
        raise click.UsageError("give two rows, RESULTS A B, or another folder, RESULTS OTHER_RESULTS")
    found = load(results)
    if len(others) == 1:
        _folders(found, others[0], as_json, options)
    else:
        _rows(found, others, as_json, options)


def _rows(results: "Results", labels: tuple[str, ...], as_json: bool, options: dict[str, Any]) -> None:
    from rlrecbench.report.comparing import as_data, pairings
    from rlrecbench.report.drilldown import drill, properties
    from rlrecbench.report.leaderboard import declared
    from rlrecbench.report.pair_tables import drilled, pair

    changes = {k: options[k] for k in ("rows", "test") if options[k] is not None}
    config = declared(results, changes)
    by = properties(options["by"])
    a, b = (_side(results, text) for text in labels)
    metrics, seeds = _names(options["metrics"]), _numbers(options["seeds"])
    found = pairings(a, b, config, metrics, seeds, options["only"])
    drills = [drill(a, b, p, options["on"] or config.primary, by) if by and p.lines else None for p in found]
    if as_json:
        blocks = [as_data(p) | {"drill": as_data(d)} for p, d in zip(found, drills, strict=True)]
        click.echo(json.dumps({"schema": 1, "blocks": blocks}, indent=1, allow_nan=False))
        return
    console = _console()
    for p, d in zip(found, drills, strict=True):
        for table in [*pair(p, config), *(drilled(d) if d is not None else [])]:
            console.print(table)


def _folders(results: "Results", other: str, as_json: bool, options: dict[str, Any]) -> None:
    from rlrecbench.report.change_tables import changed
    from rlrecbench.report.changes import changes
    from rlrecbench.report.comparing import as_data
    from rlrecbench.results import load

    if not Path(other).is_dir() and other in (*results.axes("methods").rows, *results.backbones):
        raise click.UsageError(f"{other!r} is one row; give two, as in: rlrecbench compare {results.root} {other} B")
    given = [f"--{name}" for name in ("only", "by", "on", "rows", "test") if options[name]]
    if given:
        raise click.UsageError(f"{', '.join(given)}: only for two rows, RESULTS A B; two folders are compared whole")
    found = changes(results, load(other), _names(options["metrics"]), _numbers(options["seeds"]))
    if as_json:
        click.echo(json.dumps({"schema": 1, **as_data(found)}, indent=1, allow_nan=False))
        return
    console = _console()
    for part in changed(found):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def _side(results: "Results", text: str) -> "Side":
    """Read ``B`` or ``OTHER_RESULTS:B``."""
    from rlrecbench.report.comparing import Side
    from rlrecbench.results import load

    folder, colon, label = text.rpartition(":")
    return Side(load(folder), label) if colon else Side(results, text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    names = _names(text)
    wrong = next((n for n in names if not n.isdecimal()), None)
    if wrong is not None:
        raise click.UsageError(f"--seeds {text}: {wrong!r} is not a seed; write numbers separated by commas: 42,43")
    return [int(n) for n in names]


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
