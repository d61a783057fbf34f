"""Checkpoints: safetensors and JSON, published by one rename, so a kill leaves the old one or the new one.

A power cut may leave less, and disks err: every file carries the sha256 of its values. There is one checkpoint at a
time, so where it is damaged the computation begins anew, and says so.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlrecbench.config import digest
from rlrecbench.errors import StoreError

Tensors = dict[str, Tensor]
_NAME = re.compile(r"checkpoint-(\d+)")
_BROKEN = (SafetensorError, OSError, ValueError, KeyError, TypeError)  # what reading a damaged file raises


class Checkpoint(NamedTuple):
    """What :func:`save` was given: the record with its ``step``, and the tensors by file, empty ones left out."""

    record: dict[str, Any]
    tensors: dict[str, Tensors]


def save(folder: Path, step: int, tensors: Mapping[str, Tensors], record: dict[str, Any]) -> None:
    """Write a checkpoint and remove the older ones.

    Args:
        folder: Where ``checkpoint-<step>`` is made.
        step: Where the computation stands.
        tensors: One safetensors file for each name.
        record: Everything else, as JSON holds it; one that is there already is left alone.
    """
    files = sorted(name for name, values in tensors.items() if values)
    about = {"record": {**record, "step": step}, "files": files}
    final, text = folder / f"checkpoint-{step}", json.dumps({**about, "sha256": digest(about)})
    if final.exists() and (final / "progress.json").read_text() == text:
        return
    temporary = folder / "checkpoint.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in files:
        write(temporary / f"{name}.safetensors", plain(tensors[name]))
    (temporary / "progress.json").write_text(text)
    if final.exists():  # the same step with another record
        final.rename(folder / "checkpoint.old")
    temporary.rename(final)
    shutil.rmtree(folder / "checkpoint.old", ignore_errors=True)
    for old in _all(folder):
        if old != final:
            shutil.rmtree(old)


def load(folder: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none, or if it was damaged, which stderr says."""
    path = folder
    try:
        old = folder / "checkpoint.old"
        if old.exists() and not _all(folder):  # killed between two renames
            old.rename(folder / f"checkpoint-{_about(old)['record']['step']}")
        if not (found := _all(folder)):
            return None
        path = max(found, key=_step)
        about = _about(path)
        return Checkpoint(about["record"], {n: _read(path / f"{n}.safetensors", device) for n in about["files"]})
    except _BROKEN as e:
        print(f"{path}: damaged ({e}); the computation begins anew", file=sys.stderr, flush=True)
        _discard(folder)
        return None


def write(path: Path, tensors: Tensors) -> None:
    """Write tensors with the sha256 of their values, through a temporary name."""
    save_file(tensors, path.with_suffix(".tmp"), {"sha256": _sha256(tensors)})
    path.with_suffix(".tmp").replace(path)


def read(path: Path, device: torch.device | str = "cpu") -> Tensors:
    """Read what :func:`write` wrote beside the checkpoints of a computation.

    Raises:
        StoreError: It is damaged; it is removed, and the checkpoints that build on it.
    """
    try:
        return _read(path, device)
    except _BROKEN as e:
        path.unlink(missing_ok=True)
        _discard(path.parent)
        raise StoreError(f"{path}: damaged ({e}); run the suite again: this computation begins anew") from e


def moments(optimizer: torch.optim.Optimizer) -> Tensors:
    """The state of an optimiser as tensors by name."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore(optimizer: torch.optim.Optimizer, values: Tensors) -> None:
    """Give an optimiser the state that :func:`moments` took."""
    state: dict[int, Tensors] = {}
    for name, value in values.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def plain(tensors: Mapping[str, Tensor]) -> Tensors:
    """Detach, move to the CPU and make contiguous; of tensors that share memory (tied weights) all are copied."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _about(path: Path) -> dict[str, Any]:
    """What a checkpoint holds."""
    found = json.loads((path / "progress.json").read_text())
    about: dict[str, Any] = {"record": found["record"], "files": found["files"]}
    if digest(about) != found["sha256"]:
        raise ValueError("progress.json is not what was written")
    return about


def _read(path: Path, device: torch.device | str) -> Tensors:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        expected = (file.metadata() or {}).get("sha256")
    if _sha256(tensors) != expected:
        raise ValueError(f"{path.name} is not what was written")
    return {name: value.to(device) for name, value in tensors.items()}


def _sha256(tensors: Tensors) -> str:
    found = sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _discard(folder: Path) -> None:
    for path in (*_all(folder), folder / "checkpoint.old"):
        shutil.rmtree(path, ignore_errors=True)


def _step(path: Path) -> int:
    return int(path.name.partition("-")[2])


def _all(folder: Path) -> list[Path]:
    return [p for p in folder.glob("checkpoint-*") if _NAME.fullmatch(p.name)]
