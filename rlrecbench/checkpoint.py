"""Checkpoints: safetensors and JSON, published by one rename, so a kill leaves the old one or the new one."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
_NAME = re.compile(r"checkpoint-(\d+)")


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
    final, text = folder / f"checkpoint-{step}", json.dumps({**record, "step": step})
    if final.exists() and (final / "progress.json").read_text() == text:
        return
    temporary = folder / "checkpoint.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, values in tensors.items():
        if values:
            save_file(plain(values), temporary / f"{name}.safetensors")
    (temporary / "progress.json").write_text(text)
    if final.exists():  # the same step with another record
        final.rename(folder / "checkpoint.old")
    temporary.rename(final)
    shutil.rmtree(folder / "checkpoint.old", ignore_errors=True)
    for old in _all(folder):
        if old != final:
            shutil.rmtree(old)


def load(folder: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """Read the newest checkpoint; None if there is none."""
    old = folder / "checkpoint.old"
    if old.exists():  # killed between two renames
        step = json.loads((old / "progress.json").read_text())["step"]
        if not (folder / f"checkpoint-{step}").exists():
            old.rename(folder / f"checkpoint-{step}")
    found = _all(folder)
    if not found:
        return None
    path = max(found, key=_step)
    tensors = {p.stem: load_file(p, device=str(device)) for p in sorted(path.glob("*.safetensors"))}
    return Checkpoint(json.loads((path / "progress.json").read_text()), tensors)


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


def _step(path: Path) -> int:
    return int(path.name.partition("-")[2])


def _all(folder: Path) -> list[Path]:
    return [p for p in folder.glob("checkpoint-*") if _NAME.fullmatch(p.name)]
