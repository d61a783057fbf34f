"""``rlrecbench list KIND``, ``rlrecbench show KIND NAME`` and ``rlrecbench show identifiers [PLACE]``."""

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlrecbench.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from rlrecbench.registry import Registry

KINDS = ("methods", "backbones", "datasets", "metrics", "rewards", "suites")
_PLUGIN = click.option("--plugin", type=click.Path(path_type=Path), multiple=True, help="A plug-in file to read first.")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@_PLUGIN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print all about the methods as a page (docs/methods.md).")
def list_(kind: str, plugin: tuple[Path, ...], as_json: bool, markdown: bool) -> None:
    """List what a suite can name, one line each."""
    if markdown:
        from rlrecbench.cli.markdown import page

        if kind != "methods" or as_json:
            raise ConfigError("--markdown prints the methods: rlrecbench list methods --markdown")
        click.echo(page(registry_of(kind, plugin)), nl=False)
        return
    if kind == "suites":
        from rlrecbench.suite import builtin, find

        rows = [{"name": n, "summary": _comment(find(n)), "cite": "", "origin": str(find(n))} for n in builtin()]
    else:
        rows = [
            {"name": e.name, "summary": e.summary, "cite": e.cite, "origin": e.origin}
            for e in registry_of(kind, plugin)
        ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        cite = f" ({row['cite']})" if row["cite"] else ""
        click.echo(f"{row['name']:<{width}}  {row['summary']}{cite}  [{_short(row['origin'])}]")


@click.command()
@click.argument("kind", type=click.Choice([*(k.rstrip("s") for k in KINDS), "identifiers"]))
@click.argument("name", required=False)
@_PLUGIN
@click.option("--dataset", help="identifiers: data set of an index file, to measure agreement on.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="identifiers: folder of data sets, looked at first.")
@click.option("--content", type=click.IntRange(1), help="identifiers: codes of an index file before a collision code.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(
    kind: str,
    name: str | None,
    plugin: tuple[Path, ...],
    dataset: str | None,
    data_dir: Path | None,
    content: int | None,
    as_json: bool,
) -> None:
    """Show one method, backbone, data set, metric, reward or suite: paper, deviations, settings with sources.

    For identifiers NAME is a results folder or an index file: how codes are used, what collides, and whether items
    that follow one another share prefixes.  [default: all folders below results]  Or a kind, such as rqvae: its
    settings.
    """
    if kind == "identifiers":
        from rlrecbench.cli.identifiers import collect, draw
        from rlrecbench.identifiers.settings import KINDS as KINDS_OF_IDS

        if name in KINDS_OF_IDS:
            _print_kind(name, KINDS_OF_IDS[name], as_json)
            return
        reports = collect(Path(name) if name is not None else None, dataset, data_dir, content)
        if as_json:
            click.echo(json.dumps(reports, indent=1))
        else:
            draw(reports)
        return
    given = {"--dataset": dataset, "--data-dir": data_dir, "--content": content}
    for option, value in given.items():
        if value is not None:
            raise click.UsageError(f"{option} is for 'show identifiers'.")
    if name is None:
        raise click.UsageError(f"Missing argument 'NAME': which {kind}? (rlrecbench list {kind}s)")
    if kind == "suite":
        from rlrecbench.suite import find

        click.echo(find(name).read_text().rstrip())
        return
    from rlrecbench.cli.describe import describe

    about = describe(registry_of(kind + "s", plugin).entry(name), kind)
    if as_json:
        click.echo(json.dumps(about, indent=1, default=str))
    else:
        _print(about, kind)


def registry_of(kind: str, plugins: tuple[Path, ...] = ()) -> "Registry[Any]":
    """The registry of a kind, with everything that is installed and the given plug-ins in it."""
    from rlrecbench import registry

    if plugins:
        registry.load(plugins)
    if kind == "datasets":
        from rlrecbench.data.datasets import datasets

        return datasets
    if kind == "metrics":
        from rlrecbench.metrics import metrics

        return metrics
    registry.load(plugins)
    registry.load_entry_points()
    from rlrecbench.backbones import backbones
    from rlrecbench.method import methods
    from rlrecbench.rewards import rewards

    found: dict[str, Registry[Any]] = {"methods": methods, "backbones": backbones, "rewards": rewards}
    return found[kind]


def _print(about: dict[str, Any], kind: str) -> None:
    """Print a description to the terminal: what it is, deviations, declarations, settings."""
    from rich.console import Console

    from rlrecbench.cli.describe import meaning, shown

    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    console.print(f"[bold]{about['name']}[/]  [dim]{_short(about['origin'])}[/]", highlight=False, soft_wrap=True)
    say(about["summary"])
    if about["paper"]:
        say(textwrap.fill(about["paper"], console.width))
    if about["text"]:
        say(f"\n{about['text']}")
    if about["deviations"]:
        console.print("\n[bold]Deviations[/]")
        for point in about["deviations"]:
            say(textwrap.fill(point, console.width, initial_indent="- ", subsequent_indent="  "))
    facts, settings = about["facts"].items(), about["settings"]
    if facts:
        console.print(f"\n[bold]{'Declarations' if kind == 'method' else 'Facts'}[/]")
        rows: list[tuple[str, ...]] = [
            (key, shown(value), meaning(key, value) if kind == "method" else "") for key, value in facts
        ]
        console.print(_columns(rows))
    if settings:
        console.print("\n[bold]Settings[/]  name, default, meaning; source")
        console.print(_columns([(s["name"], shown(s["default"]), s["note"]) for s in settings]))


def _print_kind(name: str, cls: type[Any], as_json: bool) -> None:
    """Print a kind of identifiers: what it is, and its settings."""
    import inspect

    from rlrecbench.cli.describe import settings_of, shown

    about: dict[str, Any] = {
        "name": name,
        "summary": (inspect.getdoc(cls) or "").partition("\n")[0],
        "settings": settings_of(cls),
    }
    if as_json:
        click.echo(json.dumps(about, indent=1, default=str))
        return
    from rich.console import Console

    console = Console()
    console.print(f"[bold]ids: {{kind: {name}}}[/]", highlight=False)
    console.print(about["summary"], markup=False, highlight=False, soft_wrap=True)
    console.print("\n[bold]Settings[/]  name, default, meaning; source")
    console.print(_columns([(s["name"], shown(s["default"]), s["note"]) for s in about["settings"]]))


def _columns(rows: list[tuple[str, ...]]) -> "Table":
    """Columns of plain text; an empty last one is left out."""
    from rich.table import Table
    from rich.text import Text

    width = 3 if any(row[2] for row in rows) else 2
    table = Table.grid(padding=(0, 2))
    for at in range(width):
        table.add_column(overflow="fold", no_wrap=at == 0, max_width=28 if at == 1 and width == 3 else None)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row[:width]))
    return table


def _comment(path: Path) -> str:
    """First comment line of a suite file."""
    first = path.read_text().partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def _short(origin: str) -> str:
    """The origin relative to the working directory, if it is below it."""
    path, _, line = origin.rpartition(":")
    try:
        return f"{Path(path).relative_to(Path.cwd())}:{line}"
    except ValueError:
        return origin
