"""``rlrecbench list KIND`` and ``rlrecbench show KIND NAME``."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rlrecbench.registry import Entry, Registry

KINDS = ("methods", "backbones", "datasets", "metrics", "rewards", "suites")
_PLUGIN = click.option("--plugin", type=click.Path(path_type=Path), multiple=True, help="A plug-in file to read first.")


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@_PLUGIN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(kind: str, plugin: tuple[Path, ...], as_json: bool) -> None:
    """List what a suite can name, one line each."""
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
@click.argument("kind", type=click.Choice([k.rstrip("s") for k in KINDS]))
@click.argument("name")
@_PLUGIN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(kind: str, name: str, plugin: tuple[Path, ...], as_json: bool) -> None:
    """Show one method, backbone, data set, metric, reward or suite: paper, settings with defaults and sources."""
    if kind == "suite":
        from rlrecbench.suite import find

        click.echo(find(name).read_text().rstrip())
        return
    entry = registry_of(kind + "s", plugin).entry(name)
    about = describe(entry, kind)
    if as_json:
        click.echo(json.dumps(about, indent=1, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{entry.name}[/]  {entry.cite}\n[dim]{_short(entry.origin)}[/]\n", highlight=False)
    console.print(about["text"], markup=False, highlight=False, soft_wrap=True)
    if about["facts"]:
        console.print()
        for key, value in about["facts"].items():
            console.print(f"{key}: {value}", markup=False, highlight=False)
    if about["settings"]:
        table = Table(box=None, pad_edge=False)
        for column in ("setting", "default", "meaning; source"):
            table.add_column(column, overflow="fold")
        for row in about["settings"]:
            table.add_row(row["name"], str(row["default"]), row["note"])
        console.print()
        console.print(table)


def registry_of(kind: str, plugins: tuple[Path, ...] = ()) -> "Registry[Any]":
    """The registry of a kind, with everything that is installed and the given plug-ins in it."""
    from rlrecbench import registry

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


def describe(entry: "Entry[Any]", kind: str) -> dict[str, Any]:
    """Everything there is to say about an entry."""
    from rlrecbench.registry import field_notes

    value = entry.value
    module = inspect.getmodule(value)
    text = inspect.getdoc(value) or ""
    if (
        module is not None
        and module.__doc__
        and entry.origin.partition(":")[0] != (inspect.getsourcefile(type(entry)) or "")
    ):
        text = (
            inspect.cleandoc(module.__doc__) + "\n\n" + text
            if "baselines" in module.__name__ or "plugin" in module.__name__
            else text
        )
    settings: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    if inspect.isclass(value) and dataclasses.is_dataclass(value):
        notes = field_notes(value)
        settings = [
            {"name": f.name, "default": _default(f), "note": notes.get(f.name, "")} for f in dataclasses.fields(value)
        ]
        made = value() if all(s["default"] != "required" for s in settings) else None
        for key in ("start", "redraw", "reference", "updates", "measure", "dropout", "needs", "budget"):
            if hasattr(made, key) and key not in {s["name"] for s in settings}:
                found = getattr(made, key)
                facts[key] = ", ".join(sorted(found)) if isinstance(found, frozenset) else found
    elif kind == "dataset":
        spec = value()
        facts = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return {
        "name": entry.name,
        "cite": entry.cite,
        "origin": entry.origin,
        "text": text,
        "facts": facts,
        "settings": settings,
    }


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        value = field.default
        return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else "required"


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
