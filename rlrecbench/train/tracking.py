"""Trackers: what train.jsonl holds, sent to TensorBoard, Weights & Biases or MLflow too, through accelerate's tracking.

train.jsonl is what counts, and a tracker follows it: it is told every line once, those of an interrupted try and of a
time before it was asked for as well. How many it has been told stands in a file beside its own. Whatever a tracker
does, it changes no result, and one that fails is left alone for the rest of the training.
"""

import json
import os
import sys
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlrecbench.errors import ConfigError

Json = dict[str, Any]
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
TRACKERS = tuple(_PACKAGES)


@dataclass(frozen=True)
class Tracking:
    """Where the lines of one training go.

    Attributes:
        trackers: Names, of :data:`TRACKERS`.
        folder: The folder of all they write.
        suite: Name of the project or experiment.
        run: Name of the run: data set, backbone, method, seed.
        settings: What the training is made of, sent as hyper-parameters.
    """

    trackers: tuple[str, ...]
    folder: Path
    suite: str
    run: str
    settings: Json


def check_installed(trackers: tuple[str, ...]) -> None:
    """Refuse a tracker that there is not, or whose package is missing.

    Raises:
        ConfigError: The message says what there is or what to install.
    """
    for name in trackers:
        if name not in TRACKERS:
            raise ConfigError(f"track: no tracker {name!r}; there are {', '.join(TRACKERS)}")
        if find_spec(_PACKAGES[name]) is None:
            raise ConfigError(
                f"--track {name}: the package {_PACKAGES[name]} is not installed; pip install 'rlrecbench[{name}]', "
                "or leave the option out"
            )


class Trackers:
    """The trackers of one training; without any, nothing happens."""

    def __init__(self, tracking: Tracking | None) -> None:
        self.tracking = tracking
        self.open: dict[str, _Follower] = {}

    def begin(self, log: Path) -> None:
        """Start the trackers and tell them what stands in the log already.

        Args:
            log: train.jsonl, cut back to where training goes on; empty for a training from the start.
        """
        if self.tracking is None:
            return
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        for name in self.tracking.trackers:
            try:
                self.open[name] = _Follower(name, self.tracking, new=not lines)
            except Exception as e:
                self._leave(name, e)
        for line in lines:
            self._tell(line)

    def log(self, line: Json) -> None:
        """Tell all trackers a new line."""
        self._tell(line)

    def close(self) -> None:
        """End the runs."""
        for name, follower in list(self.open.items()):
            try:
                follower.tracker.finish()
            except Exception as e:
                self._leave(name, e)
        self.open.clear()

    def _tell(self, line: Json) -> None:
        for name, follower in list(self.open.items()):
            try:
                follower.tell(line)
            except Exception as e:
                self._leave(name, e)

    def _leave(self, name: str, e: Exception) -> None:
        self.open.pop(name, None)
        first = next(iter(str(e).splitlines()), "")
        print(
            f"warning: tracker {name} failed and gets no more of this training ({type(e).__name__}: {first}); "
            "the training goes on, and train.jsonl has all",
            file=sys.stderr,
            flush=True,
        )


class _Follower:
    """One tracker, and how many lines of the log it has been told."""

    def __init__(self, name: str, tracking: Tracking, *, new: bool) -> None:
        self.name, self.at = name, 0
        self.path = tracking.folder / "state" / tracking.run / f"{name}.json"
        state: Json = {} if new or not self.path.exists() else json.loads(self.path.read_text(encoding="utf-8"))
        self.known: int = state.get("lines", 0)
        self.id: str | None = state.get("id")
        self.tracker = _MAKERS[name](tracking, self.id)
        self.tracker.start()
        if not self.known:
            self.tracker.store_init_configuration(_flat(tracking.settings))
            self.id = _run_id(self.tracker)
            self._remember()

    def tell(self, line: Json) -> None:
        """Log a line, unless an earlier try has."""
        self.at += 1
        if self.at <= self.known:
            return
        values = {k: v for k, v in line.items() if k != "step"}
        if self.name == "mlflow":  # where @ may not stand in a name
            values = {k.replace("@", "_at_"): v for k, v in values.items()}
        self.tracker.log(values, step=line["step"])
        self.known = self.at
        self._remember()

    def _remember(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"lines": self.known, "id": self.id}), encoding="utf-8")
        temporary.replace(self.path)


def _tensorboard(tracking: Tracking, run: str | None) -> Any:
    from accelerate.tracking import TensorBoardTracker

    purge = {} if run else {"purge_step": 0}  # hides what an older training of this name has left
    return TensorBoardTracker(tracking.run, str(tracking.folder / "tensorboard"), **purge)


def _wandb(tracking: Tracking, run: str | None) -> Any:
    from accelerate.tracking import WandBTracker

    os.environ.setdefault("WANDB_CACHE_DIR", str(tracking.folder / "wandb-cache"))
    return WandBTracker(
        tracking.suite,
        name=tracking.run,
        dir=str(tracking.folder),
        id=run or uuid.uuid4().hex[:12],
        resume="allow",
    )


def _mlflow(tracking: Tracking, run: str | None) -> Any:
    os.environ.setdefault("MLFLOW_TRACKING_URI", (tracking.folder / "mlflow").resolve().as_uri())
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(tracking.suite, run_id=run, run_name=tracking.run)


_MAKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def _run_id(tracker: Any) -> str:
    """What a resumed training continues."""
    if tracker.name == "mlflow":
        return str(tracker.tracker.info.run_id)
    return str(tracker.tracker.id) if tracker.name == "wandb" else tracker.run_name


def _flat(settings: Json, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Settings with dotted names and values that every tracker takes."""
    out: dict[str, str | int | float | bool] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return out
