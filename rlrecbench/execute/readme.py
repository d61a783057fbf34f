"""``results/<suite>/README.md``: what the folder is and how it came about.

The generated part stands between two markers and is written anew by every run; what a reader adds around it stays,
and a README without the markers is never touched. Everything comes from the records, so the same records give the
same text.
"""

import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rlrecbench.errors import StoreError
from rlrecbench.execute.local import cores
from rlrecbench.execute.progress import duration
from rlrecbench.results import Record, Results
from rlrecbench.store import unwritable, write_atomic

if TYPE_CHECKING:
    from rlrecbench.execute.runner import Options

BEGIN = "<!-- rlrecbench run: everything down to the end marker is replaced by the next run; the rest is yours -->"
_PATH = re.compile(r"(?<![\w./-])/(?:[^\s/:'\"]+/)+([^\s/:'\"]+)")  # an absolute path, of which the last part stays
END = "<!-- rlrecbench run: end -->"
_FILES = {
    "leaderboard.md": "the tables",
    "leaderboard.html": "the tables, plots, training curves and single users as one page; opens without a network",
    "leaderboard.csv": "every number of the tables, unrounded",
    "leaderboard.json": "the same with all tests",
    "tables": "the tables for LaTeX",
    "figures": "figures as PDF and PNG",
    "identifiers": "the items' identifiers and how they were made",
    "data": "titles, popularity groups and test rows, so that the folder can be read alone",
    "cells": "one record per data set, backbone, method and seed: metrics, values per user, lists, training log",
    "suite.json": "the suite as it was resolved",
    "failures.json": "what failed in the last run",
}


@dataclass(frozen=True)
class Facts:
    """What the README says.

    Attributes:
        suite: Name of the suite.
        folder: The results folder as a command names it.
        command: What wrote it last.
        commits: Of the source that made the records, the oldest first; none outside a checkout.
        versions: Of the packages that made the newest record.
        machine: Cores, memory and kind of the machine of the last run; no names.
        devices: On which the records were computed.
        started: Begin of the oldest stage, UTC; None without a record.
        finished: End of the newest stage, UTC.
        compute_s: Wall seconds of all stages that the records rest on, each counted once.
        cells: Number of cells of the suite.
        done: Number of records.
        seeds: Those of the records.
        failed: Why cells failed in the last run, by cell; one line each.
        files: What there is of the files that are described.
    """

    suite: str
    folder: str
    command: str
    commits: tuple[str, ...]
    versions: dict[str, str]
    machine: str
    devices: tuple[str, ...]
    started: str | None
    finished: str | None
    compute_s: float
    cells: int
    done: int
    seeds: tuple[int, ...]
    failed: dict[str, str]
    files: tuple[str, ...]


def text(facts: Facts) -> str:
    """Write the generated part, markers included."""
    where = shlex.quote(facts.folder)
    lines = [
        BEGIN,
        "",
        f"# Results of the suite {facts.suite}",
        "",
        f"{facts.done} of {facts.cells} cells are done{_seeds(facts.seeds)}. {_failed(facts.failed)}",
        "",
        "| | |",
        "| --- | --- |",
        f"| command | `{facts.command}` |",
        f"| commit | {_commits(facts.commits)} |",
        f"| versions | {', '.join(f'{name} {version}' for name, version in facts.versions.items()) or 'unknown'} |",
        f"| machine | {facts.machine} |",
        f"| device | {', '.join(facts.devices) or 'unknown'} |",
        f"| started | {facts.started or 'not yet'} |",
        f"| finished | {facts.finished or 'not yet'} |",
        f"| compute | {duration(facts.compute_s)} of workers' time, every stage counted once |",
        "",
        *_failures(facts.failed),
        "## What is here",
        "",
        *(f"- `{name}`: {_FILES[name]}" for name in facts.files),
        "",
        "## Tables and questions",
        "",
        "```",
        *(f"{command:<{len(where) + 29}}  # {about}" for command, about in _commands(where)),
        "```",
        "",
        END,
    ]
    return "\n".join(lines) + "\n"


def write_readme(
    folder: Path, results: Results | None, suite: str, options: "Options", cells: int, failed: Mapping[str, str]
) -> Path:
    """Write or renew the README of a results folder; a README without our markers stays as it is.

    Args:
        folder: The results folder.
        results: The records; None if there is none.
        suite: The suite as the command names it.
        options: Of the run.
        cells: Number of cells of the suite.
        failed: Why cells failed in this run, by cell.

    Returns:
        The path of the README.

    Raises:
        StoreError: It cannot be read or written.
    """
    path = folder / "README.md"
    fresh = text(gather(folder, results, suite, options, cells, failed))
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old:
            before, begin, rest = old.partition(BEGIN)
            _, end, after = rest.partition(END)
            if not begin or not end:
                return path
            fresh = before + fresh.rstrip("\n") + after
        if fresh != old:
            write_atomic(path, fresh)
    except UnicodeDecodeError as e:
        raise StoreError(f"{path} is not UTF-8 text; rename it and run again") from e
    except OSError as e:
        raise unwritable(folder, e) from e
    return path


def gather(
    folder: Path, results: Results | None, suite: str, options: "Options", cells: int, failed: Mapping[str, str]
) -> Facts:
    """Collect what the README says."""
    records = sorted(results.records, key=lambda r: str(r.provenance.get("date", ""))) if results is not None else []
    stages = {name: stage for r in records for name, stage in r.provenance.get("stages", {}).items()}
    ends = [(datetime.fromisoformat(s["date"]), float(s["wall_s"])) for s in stages.values()]
    begins = [end - timedelta(seconds=wall) for end, wall in ends]
    return Facts(
        suite=results.name if results is not None else Path(suite).stem,
        folder=_portable(str(folder)),
        command=command(suite, options),
        commits=_distinct(records, "commit"),
        versions=records[-1].provenance.get("versions", {}) if records else {},
        machine=machine(),
        devices=_distinct(records, "device"),
        started=_date(min(begins, default=None)),
        finished=_date(max((end for end, _ in ends), default=None)),
        compute_s=sum(wall for _, wall in ends),
        cells=max(cells, len(records)),
        done=len(records),
        seeds=tuple(sorted({r.seed for r in records})),
        failed={cell: _PATH.sub(r"\1", reason.partition("\n")[0]) for cell, reason in failed.items()},
        files=tuple(name for name in _FILES if (folder / name).exists()),
    )


def command(suite: str, options: "Options") -> str:
    """Reconstruct the command; of absolute paths only the last part is written."""
    words = ["rlrecbench", "run", _portable(suite)]
    for flag, path in (("--results", options.results), ("--data-dir", options.data_dir)):
        words += [flag, _portable(str(path))] if path is not None else []
    for flag, values in (("--set", options.sets), ("--only", options.only)):
        for change in values:
            key, equals, given = change.partition("=")
            words += [flag, key + equals + _portable(given)]
    for flag, number in (("--workers", options.workers), ("--limit-users", options.limit_users)):
        words += [flag, str(number)] if number is not None else []
    words += [word for tracker in options.track for word in ("--track", tracker)]
    words += ["--ray", options.ray] if options.ray is not None else []
    words += ["--device", options.device] if options.device != "auto" else []
    words += ["--policy", options.policy] if options.policy != "missing" else []
    words += ["--until", options.until] if options.until is not None else []
    words += ["--stop-on-error"] if options.stop_on_error else []
    words += ["--quiet"] if options.quiet else []
    return shlex.join(words)


def machine() -> str:
    """Cores, memory and kind of this machine, without its name."""
    n = cores()
    found = [f"{n} core{'s' * (n > 1)}"]
    with suppress(AttributeError, OSError, ValueError):  # not a POSIX system
        found.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory")
    return ", ".join([*found, f"{platform.system()} {platform.machine()}"])


def _commands(folder: str) -> list[tuple[str, str]]:
    return [
        (f"rlrecbench report {folder}", "the tables again, without training"),
        (f"rlrecbench compare {folder} A B", "two methods, metric by metric"),
        (f"rlrecbench inspect {folder} --user ID", "one user's lists side by side"),
        (f"rlrecbench status {folder}", "what is done, failed or still to do"),
    ]


def _portable(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


def _distinct(records: Sequence[Record], key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(r.provenance[key]) for r in records if r.provenance.get(key)))


def _date(when: datetime | None) -> str | None:
    return None if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def _seeds(seeds: Sequence[int]) -> str:
    return f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" if seeds else ""


def _commits(commits: Sequence[str]) -> str:
    return ", ".join(f"`{c}`" for c in commits) or "unknown: not run from a checkout"


def _failed(failed: dict[str, str]) -> str:
    return f"{len(failed)} failed in the last run." if failed else "None failed in the last run."


def _failures(failed: dict[str, str]) -> list[str]:
    if not failed:
        return []
    return ["## Failed", "", *(f"- {cell}: {reason}" for cell, reason in failed.items()), ""]
