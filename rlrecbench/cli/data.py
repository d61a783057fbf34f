"""``rlrecbench data``: list, info, download, prepare, verify."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rlrecbench.data.sources import Kind, Source, Sources

_DIR = click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of data sets, looked at first.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_KIND = click.option(
    "--released",
    "kind",
    flag_value="released",
    default="raw",
    help="The authors' own processed files instead of the raw reviews.",
)


@click.group()
def data() -> None:
    """Look at data sets, check them, and make them from their original files."""


@data.command("list")
@_DIR
@_JSON
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the data sets, where they are found, and where their original files come from."""
    from rlrecbench.data.datasets import data_dirs, datasets, locate, spec_of
    from rlrecbench.errors import DataError

    rows = []
    for entry in datasets:
        try:
            place = str(locate(entry.name, data_dirs(data_dir)))
        except DataError:
            place = "not found"
        sources = spec_of(entry.name, []).sources
        files = {"raw": [asdict(f) for f in sources.raw], "released": [asdict(f) for f in sources.released]}
        rows.append({"name": entry.name, "summary": entry.summary, "place": place, "sources": files})
        if not as_json:
            click.echo(f"{entry.name:<14} {entry.summary}  [{place}]")
            for kind in ("raw", "released"):
                for file in files[kind]:
                    known = ", sha256 known" if file["sha256"] else ""
                    click.echo(f"{'':<14} {kind}: {file['url'] or file['file'] + ' (by hand)'}{known}")
    if as_json:
        click.echo(json.dumps(rows, indent=1))


@data.command()
@click.argument("name")
@_DIR
@_JSON
def info(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Show a data set's statistics beside the published ones."""
    from rlrecbench.data.datasets import data_dirs
    from rlrecbench.data.statistics import info as statistics

    found = statistics(name, data_dirs(data_dir))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name} ({found.get('protocol', '')})")
    for column in ("statistic", "computed", "published", ""):
        table.add_column(column, justify="right" if column in ("computed", "published") else "left")
    for key, row in found["statistics"].items():
        agrees = {True: "equal", False: "[red]differs[/]"}.get(row.get("match"), "")
        table.add_row(key, _number(row["computed"]), _number(row.get("published")), agrees)
    Console().print(table)


@data.command()
@click.argument("name")
@_KIND
@click.option(
    "--url",
    "urls",
    multiple=True,
    help="A mirror (https): of the file with the same name at its end or, ending in /, of the folder of all files.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Data folder to put them in, under raw/NAME (default: the first one that can be written to).",
)
def download(name: str, kind: "Kind", urls: tuple[str, ...], data_dir: Path | None) -> None:
    """Fetch a data set's original files; what is there already is checked, what is half there is completed."""
    from rlrecbench.data.datasets import spec_of, writable_dir
    from rlrecbench.data.download import download as fetch
    from rlrecbench.errors import DataError

    sources = spec_of(name, []).sources
    files = _files_of(name, sources, kind)
    if not all(file.url for file in files):
        raise DataError(f"{sources.by_hand}; its authors' processed files come with --released")
    mirrors = {file.file: url + file.file for url in urls if url.endswith("/") for file in files}
    mirrors |= {url.rpartition("/")[2]: url for url in urls if not url.endswith("/")}
    if unknown := mirrors.keys() - {file.file for file in files}:
        raise DataError(
            f"--url ends in {', '.join(sorted(unknown))}, the files of {name} are {', '.join(f.file for f in files)}"
        )
    folder = writable_dir(data_dir) / "raw" / name
    for file in files:
        fetch(file, folder, mirrors.get(file.file, ""), _say, show=_stderr_is_terminal())
    _say(f"next: rlrecbench data prepare {name}{' --released' if kind == 'released' else ''}")


@data.command()
@click.argument("name")
@_KIND
@click.option(
    "--raw",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of the original files, or the file of interactions with the others beside it "
    "(default: where download puts them).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that gets the folder NAME (default: the first data folder that can be written to).",
)
@click.option("--time-zone", help="Where the months begin of data that are split by time (default: UTC).")
@_DIR
def prepare(
    name: str, kind: "Kind", raw: Path | None, out: Path | None, time_zone: str | None, data_dir: Path | None
) -> None:
    """Make a data set from its original files, in the papers' own way."""
    from dataclasses import replace

    from rlrecbench.data.datasets import data_dirs, spec_of, writable_dir
    from rlrecbench.data.from_raw import Job, make, window_settings
    from rlrecbench.errors import ConfigError

    sources = spec_of(name, []).sources
    _files_of(name, sources, kind)
    window = window_settings(name)
    if time_zone is not None:
        if window is None:
            raise ConfigError(f"--time-zone is for data that are split by time; {name} is not")
        window = replace(window, time_zone=time_zone)
    places = [raw] if raw else [d / "raw" / name for d in data_dirs(data_dir)]
    make(Job(name, sources, kind, out or writable_dir(data_dir), window, _say, _stderr_is_terminal()), places)


@data.command()
@click.argument("name")
@_DIR
@_JSON
def verify(name: str, data_dir: Path | None, as_json: bool) -> int:
    """Compare a data set's files with their checksums, and its statistics with the published ones."""
    from rlrecbench.data.datasets import data_dirs
    from rlrecbench.data.statistics import verify as verdicts

    rows = verdicts(name, data_dirs(data_dir))
    if as_json:
        click.echo(json.dumps([r._asdict() for r in rows], indent=1))
    else:
        for row in rows:
            mark = click.style("held  ", fg="green") if row.ok else click.style("BROKEN", fg="red", bold=True)
            click.echo(f"{mark}  {row.file}: {row.detail}")
    return 0 if all(r.ok for r in rows) else 4


def _files_of(name: str, sources: "Sources", kind: "Kind") -> "tuple[Source, ...]":
    from rlrecbench.errors import ConfigError

    files = sources.of(kind)
    if not files:
        fix = "leave --released out" if sources.raw else "add --released" if sources.released else "nothing to fetch"
        raise ConfigError(f"data set {name} has no {kind} files; {fix}")
    return files


def _say(text: str) -> None:
    click.echo(text, err=True)


def _stderr_is_terminal() -> bool:
    return sys.stderr.isatty()


def _number(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}" if isinstance(value, float) else str(value)
