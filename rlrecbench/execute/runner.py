"""The main job: a suite in, records and a leaderboard out."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table as Grid

from rlrecbench import suite as suites
from rlrecbench.data.datasets import data_dirs
from rlrecbench.errors import ConfigError
from rlrecbench.execute import cluster, export, local
from rlrecbench.execute.export_data import export_data
from rlrecbench.execute.identifiers import export_identifiers
from rlrecbench.execute.readme import write_readme
from rlrecbench.execute.scheduler import Failure, Policy, execute, heed_sigterm
from rlrecbench.identifiers import models
from rlrecbench.report import write_reports
from rlrecbench.results import Results
from rlrecbench.results import load as load_results
from rlrecbench.stages import Identify, Score, read_cost
from rlrecbench.store import Stage, Store, closure, write_atomic
from rlrecbench.train.tracking import check_installed


@dataclass(frozen=True)
class Options:
    """How a suite is run; none of it changes a result but ``limit_users``, which is part of the fingerprint."""

    results: Path | None = None
    sets: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    workers: int | None = None
    device: str = "auto"
    policy: Policy = "missing"
    limit_users: int | None = None
    stop_on_error: bool = False
    quiet: bool = False
    data_dir: Path | None = None
    until: str | None = None  # the kind of stage to end with; none: the record of every cell
    track: tuple[str, ...] = ()  # trackers that follow every training
    ray: str | None = None  # address of a Ray cluster; none: processes on this machine


@dataclass(frozen=True)
class Planned:
    """A suite, its cells and where they go.

    Attributes:
        suite: What was asked for.
        cells: The cells that are to be computed.
        whole: All cells of the suite, those that ``--only`` leaves out too.
        results: The results folder.
        store: Where the stages are.
        until: The kind of stage to end with; None: the record of every cell.
    """

    suite: suites.Suite
    cells: list[suites.Cell]
    whole: list[suites.Cell]
    results: Path
    store: Store
    until: str | None = None

    def ends(self, cells: Sequence[suites.Cell]) -> list[Stage]:
        """The stages with which some cells end."""
        scores: list[Stage] = [cell.score for cell in cells]
        return scores if self.until is None else [s for s in closure(scores) if s.name == self.until]


@dataclass(frozen=True)
class Done:
    """What a run did.

    Attributes:
        results: The records; None if there is none.
        folder: The results folder.
        computed: Stages computed in this run.
        seconds: How long that took.
        failures: Cell name -> why it failed.
        written: Report files and pictures.
        tables: The leaderboard for the terminal.
    """

    results: Results | None
    folder: Path
    computed: int
    seconds: float
    failures: dict[str, Failure] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    tables: list[Grid] = field(default_factory=list)


def plan(suite: str, options: Options) -> Planned:
    """Read a suite and expand it; computes nothing.

    Raises:
        BenchError: The suite, a name, or a data set is wrong.
    """
    checked = suites.load(suites.find(suite), options.sets)
    if options.ray is None:
        check_device(options.device, checked.pace.processes)
    check_installed(options.track)
    results = options.results or Path("results") / checked.name
    cells = suites.expand(
        checked,
        data_dirs(options.data_dir),
        device=options.device,
        limit_users=options.limit_users,
        tracking=_tracking(options.track, results),
    )
    given = os.environ.get("RLRECBENCH_STORE")
    return Planned(
        checked,
        suites.select(cells, options.only),
        cells,
        results,
        Store(Path(given) if given else results.parent / "store"),
        options.until,
    )


def _tracking(trackers: tuple[str, ...], results: Path) -> dict[str, Any] | None:
    folder = str((results / "tracking").resolve())
    return {"trackers": list(dict.fromkeys(trackers)), "folder": folder} if trackers else None


def check_device(device: str, processes: int = 1) -> None:
    """Refuse a device that is not there, or more processes for one training than there are GPUs.

    Raises:
        ConfigError: "cuda" was asked for and there is none, or too few.
    """
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                "--device cuda: torch sees no CUDA device here; use --device cpu or auto (rlrecbench doctor)"
            )
    if processes > 1:
        from rlrecbench.train.processes import check_devices

        check_devices(processes, device)


@heed_sigterm()
def run(suite: str, options: Options) -> Done:
    """Run a suite, or go on with it.

    Raises:
        BenchError: The request is wrong, or a folder cannot be written.
        KeyboardInterrupt: Stopped; the state is saved and the same command continues.
    """
    planned = plan(suite, options)
    folder, store, cells = planned.results, planned.store, planned.cells
    if options.policy != "never":
        _fetch_models(planned.ends([c for c in cells if not export.is_exported(c, folder)]), store)
    export.claim(folder, planned.suite.name, planned.suite.as_json(), export.plan_json(cells, store))
    export.set_stale_aside(cells, folder)
    by_key: dict[str, list[suites.Cell]] = {}  # labels with equal settings share their stages
    for cell in cells:
        by_key.setdefault(cell.score.key, []).append(cell)
    if options.policy != "always":
        export.export_computed(cells, folder, store)

    def on_done(stage: Stage) -> None:
        if isinstance(stage, Score):
            for cell in by_key[stage.key]:
                export.export(cell, folder, store, again=options.policy == "always")

    report = execute(
        planned.ends([c for c in cells if options.policy == "always" or not export.is_exported(c, folder)]),
        store,
        local.processes if options.ray is None else partial(cluster.nodes, options.ray),
        workers=options.workers,
        plugins=planned.suite.plugins,
        policy=options.policy,
        stop_on_error=options.stop_on_error,
        quiet=options.quiet,
        on_done=on_done,
    )
    export.export_computed(cells, folder, store)  # those of which an earlier stage alone was computed again
    failures = {c.name: f for c in cells if (f := _failure(c, report.failures)) is not None}
    lines: list[dict[str, Any]] = [{"cell": n, "reason": f.reason, "log": str(f.log)} for n, f in failures.items()]
    write_atomic(folder / "failures.json", json.dumps(lines, indent=1) + "\n")
    export_data(planned.whole, folder, store)
    trained = [_validation(cells, store)] if planned.until == "train" else []
    results = load_results(folder) if any(export.is_exported(cell, folder) for cell in cells) else None
    tables, written = write_reports(results) if results is not None else ([], [])
    written += export_identifiers(planned.whole, folder, store)
    if results is not None:
        reasons = {name: failure.reason for name, failure in failures.items()}
        written.append(write_readme(folder, results, suite, options, len(planned.whole), reasons))
    return Done(results, folder, report.computed, report.seconds, failures, written, [*tables, *trained])


def _validation(cells: Sequence[suites.Cell], store: Store) -> Grid:
    """What trainings reached on validation, which is all that settings may be chosen by."""
    table = Grid(title="best on validation", title_justify="left")
    for column in ("cell", "best", "at step", "of", "train s"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    for cell in cells:
        train = cell.score.rank.train
        if train is not None and store.has(train):
            cost = read_cost(store.path(train))
            key, name = ("valid_ndcg10", "ndcg@10") if "valid_ndcg10" in cost else ("valid_logp", "log p")
            best = f"{name} {cost[key]:.4f}"
            table.add_row(cell.name, best, f"{cost['best_step']:,}", f"{cost['steps']:,}", f"{cost['train_s']:,.0f}")
    return table


def _fetch_models(ends: Sequence[Stage], store: Store) -> None:
    """Have the language models that are still needed, before anything is computed.

    Raises:
        DataError: One is neither in the cache nor to be downloaded.
    """
    todo = [s for s in closure(ends) if isinstance(s, Identify) and s.settings["kind"] == "titles"]
    for place in sorted({s.place for s in todo if s.place != models.TINY and not store.intact(s)}):
        models.folder_of(place)


def _failure(cell: suites.Cell, failures: Mapping[str, Failure]) -> Failure | None:
    """What a cell failed of: the last of its stages that did."""
    return next((failures[s.key] for s in reversed(closure([cell.score])) if s.key in failures), None)
