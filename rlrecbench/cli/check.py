"""``rlrecbench check METHOD``."""

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.argument("method")
@click.option("--plugin", type=click.Path(path_type=Path), multiple=True, help="A Python file with the method.")
@click.option(
    "--items", type=click.Choice(["codes", "titles"]), help="What the items are; default: what the method takes."
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A hyper-parameter of the method.")
def check(
    method: str, plugin: tuple[Path, ...], items: Literal["codes", "titles"] | None, sets: tuple[str, ...]
) -> int:
    """Test whether a method keeps the plug-in contract, on the CPU in about a minute."""
    import torch

    from rlrecbench import conformance, registry
    from rlrecbench.config import parse_yaml
    from rlrecbench.errors import ConfigError
    from rlrecbench.method import methods

    torch.set_num_threads(1)
    registry.load(plugin)
    entry = methods.entry(method)
    settings = {}
    for change in sets:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write key=value, such as beta=0.5")
        settings[key] = parse_yaml(value)
    click.echo(f"{entry.name} ({entry.origin})", err=True)
    broken = 0
    for result in conformance.check(method, settings, items):
        mark = click.style("held  ", fg="green") if result.held else click.style("BROKEN", fg="red", bold=True)
        click.echo(f"  {mark}  {result.name}: {result.detail}")
        broken += not result.held
    click.echo(f"{broken} checks broken" if broken else "all checks held")
    return 4 if broken else 0
