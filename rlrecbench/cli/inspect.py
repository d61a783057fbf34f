"""``rlrecbench inspect RESULTS --user ID``."""

import json
from pathlib import Path

import click

from rlrecbench.errors import ConfigError

_WIDTH = 100  # characters where the output is no terminal
_PICKED = 5  # users proposed where none is named


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--user", metavar="ID", help="The data set's id, or the number of the test row.")
@click.option("--dataset", metavar="NAME", help="[default: the only one]")
@click.option("--backbone", default="", metavar="NAME[,NAME]", help="[default: all]")
@click.option("--methods", default="", metavar="NAME[,NAME]", help="[default: all]")
@click.option("--seed", type=click.IntRange(0), help="[default: the first]")
@click.option("--k", type=click.IntRange(1), default=10, show_default=True, help="Length of the lists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(
    results: Path,
    user: str | None,
    dataset: str | None,
    backbone: str,
    methods: str,
    seed: int | None,
    k: int,
    as_json: bool,
) -> None:
    """Show one test user's history, the target, and every method's list side by side."""
    from rich.console import Console

    from rlrecbench.config import plain
    from rlrecbench.report.case_tables import drawn
    from rlrecbench.report.cases import case, first_seed, pick
    from rlrecbench.results import load

    found = load(results)
    name = dataset or _only([d for d in found.datasets if any(r.dataset == d for r in found.records)], results)
    seed = first_seed(found, name) if seed is None else seed
    if user is None:
        users = ", ".join(pick(found, name, _PICKED, seed))
        raise ConfigError(f"say which user: --user ID; methods disagree most on {users} of {name}")
    one = case(found, name, user, seed, backbones=_names(backbone), methods=_names(methods), k=k)
    if as_json:
        click.echo(json.dumps({"schema": 1, **plain(one)}, indent=1))
        return
    console = Console()
    width = console.width if console.is_terminal else _WIDTH
    console = Console(width=width)
    for part in drawn(one, width):
        console.print(part)


def _only(names: list[str], results: Path) -> str:
    """The data set, where there is one only."""
    if len(names) > 1:
        raise ConfigError(f"{results} has several data sets; name one with --dataset: {', '.join(names)}")
    if not names:
        raise ConfigError(f"{results}: no cell is done yet; run the suite (rlrecbench run) first")
    return names[0]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
