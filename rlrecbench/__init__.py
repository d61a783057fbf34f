"""A reference benchmark of fine-tuning methods for generative recommenders."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from rlrecbench.results import Results

__version__ = metadata.version("rlrecbench")
__all__ = ["__version__", "load", "run", "score"]


def run(
    suite: str | Path,
    *,
    set: "Mapping[str, Any] | None" = None,
    results: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    ray: str | None = None,
    track: "Sequence[str]" = (),
    quiet: bool = False,
) -> "Results":
    """Run a suite, or go on with it, and return its records.

    Args:
        suite: A suite file, or the name of a built-in suite.
        set: Changes by dotted key, such as ``{"seeds": [42], "train.epochs": 1}``.
        results: Results folder; by default ``results/<suite name>``.
        workers: How many stages at once.
        device: "auto", "cpu" or "cuda".
        ray: Address of a Ray cluster, as for ``--ray``; None: processes on this machine.
        track: Trackers that follow every training: "tensorboard", "wandb", "mlflow".
        quiet: Show no progress.

    Raises:
        BenchError: The request is wrong.
        CellsFailedError: Some cells failed; the others are done.
    """
    import json

    from rlrecbench.errors import CellsFailedError
    from rlrecbench.execute import runner

    sets = tuple(f"{key}={json.dumps(value)}" for key, value in (set or {}).items())
    folder = Path(results) if results is not None else None
    options = runner.Options(
        results=folder, sets=sets, workers=workers, device=device, ray=ray, track=tuple(track), quiet=quiet
    )
    done = runner.run(str(suite), options)
    if done.failures or done.results is None:
        names = ", ".join(done.failures) or "all"
        raise CellsFailedError(f"cells failed: {names}; see {done.folder / 'failures.json'}")
    return done.results


def load(folder: str | Path) -> "Results":
    """Read a results folder.

    Raises:
        StoreError: It is not one, or a record is broken.
    """
    from rlrecbench.results import load as read

    return read(Path(folder))


def score(ranked: "str | Path | pd.DataFrame", dataset: str, k: "Sequence[int]" = (5, 10)) -> dict[str, float]:
    """Score any recommender's lists.

    Args:
        ranked: A table (or a tsv, csv or parquet file) with columns user_id, rank or row order, and item_id.
        dataset: Name of the data set.
        k: Cut-offs.

    Raises:
        DataError: The lists or the data set are wrong.
    """
    from rlrecbench.cli.score import score_lists

    values: dict[str, float] = score_lists(ranked, dataset, k, None)["metrics"]
    return values
