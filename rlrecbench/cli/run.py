"""``rlrecbench run SUITE``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rlrecbench.execute.runner import Done

_PATH = click.Path(path_type=Path)


def suite_options(command: Any) -> Any:
    """Add the options that change what a suite contains."""
    for option in (
        click.option("--data-dir", type=_PATH, help="Folder of data sets, looked at first."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option("--limit-users", type=click.IntRange(1), help="Score the first N test rows only."),
        click.option("--only", multiple=True, metavar="KEY=VALUE[,VALUE]", help="dataset, backbone, method or seed."),
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a setting, dotted."),
        click.option(
            "--until",
            type=click.Choice(["prepare", "collab", "embed", "identify", "train", "rank"]),
            help="End with this kind of stage, such as identify: identifiers without any training on them.",
        ),
        click.option("--results", type=_PATH, help="Results folder.  [default: results/<suite name>]"),
        click.argument("suite"),
    ):
        command = option(command)
    return command


@click.command()
@suite_options
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Stages at once: on this machine, or with --ray on each GPU and each node without one; they share its cores.  "
    "[default: one where there is a GPU (with --ray: one per GPU), else one per core, at most 8]",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Compute on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local to start one here. The store, plug-in "
    "files, data and models must have the same path on all nodes. Stages that can use a GPU take 1/N of one.",
)
@click.option(
    "--policy",
    type=click.Choice(["missing", "always", "never"]),
    default="missing",
    show_default=True,
    help="Compute what is missing, everything again, or nothing.",
)
@click.option(
    "--track",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Send every training's log there too, files in the results folder's tracking/.  [repeatable]",
)
@click.option("--stop-on-error", is_flag=True, help="Begin nothing new after a failure.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def run(**options: Any) -> int:
    """Run a suite: a path, or the name of a built-in one such as quickstart. Run it again to go on."""
    from rlrecbench.execute import runner

    suite = options.pop("suite")
    quiet = options["quiet"]
    done = runner.run(suite, runner.Options(**options))
    if not quiet:
        _tell(done)
    return 3 if done.failures else 0


def _tell(done: "Done") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rlrecbench.execute.progress import duration

    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=120)
    for grid in done.tables:
        console.print()
        console.print(grid)
    if done.failures:
        table = Table(title="failed", title_style="bold red", expand=False)
        for column in ("cell", "reason", "log"):
            table.add_column(column, overflow="fold")
        for name, failure in done.failures.items():
            table.add_row(*map(escape, (name, failure.reason, str(failure.log))))
        console.print(table)
    what = f"{done.computed} stages computed in {duration(done.seconds)}" if done.computed else "nothing to compute"
    console.print(f"\n{what}; results in [bold]{escape(str(done.folder))}[/]:", highlight=False)
    for path in [*done.written, done.folder / "cells"]:
        if path.exists():
            console.print(f"  {path}", highlight=False, markup=False)
