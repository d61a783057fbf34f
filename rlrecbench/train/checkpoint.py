"""Checkpoints: safetensors and JSON, published by one rename, so a kill leaves the old one or the new one."""

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass
class Progress:
    """Where training stands, apart from tensors. Random streams are named by step, so none is kept."""

    step: int = 0  # batches done
    examples: int = 0  # training pairs seen
    best: float = -1.0  # best ndcg@10 on validation
    best_step: int = 0
    stale: int = 0  # evaluations since the best
    seconds: float = 0.0  # spent training, over all tries
    log_bytes: int = 0  # length of train.jsonl at this point
    stopped: bool = False  # patience ran out
    evaluations: list[tuple[int, float]] = field(default_factory=list)


def save(
    folder: Path,
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    best: dict[str, Tensor],
) -> None:
    """Write a checkpoint and remove the older ones."""
    final = folder / f"checkpoint-{progress.step}"
    if final.exists() and _evaluations(final) == len(progress.evaluations):
        return
    temporary = folder / "checkpoint.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(plain(learner.state_dict()), temporary / "learner.safetensors")
    if best:
        save_file(best, temporary / "best.safetensors")
    moments = {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    save_file(plain(moments), temporary / "optimizer.safetensors")
    (temporary / "progress.json").write_text(json.dumps(asdict(progress)))
    if final.exists():  # the same step, before its evaluation
        final.rename(folder / "checkpoint.old")
    temporary.rename(final)
    shutil.rmtree(folder / "checkpoint.old", ignore_errors=True)
    for old in _all(folder):
        if old != final:
            shutil.rmtree(old)


def load(folder: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, Tensor]]:
    """Continue from the newest checkpoint; a fresh start if there is none."""
    old = folder / "checkpoint.old"
    if old.exists():  # killed between two renames
        step = json.loads((old / "progress.json").read_text())["step"]
        if not (folder / f"checkpoint-{step}").exists():
            old.rename(folder / f"checkpoint-{step}")
    found = _all(folder)
    if not found:
        return Progress(), {}
    path = max(found, key=lambda p: int(p.name.partition("-")[2]))
    device = next(learner.parameters()).device
    learner.load_state_dict(load_file(path / "learner.safetensors", device=str(device)))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in load_file(path / "optimizer.safetensors").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    saved = json.loads((path / "progress.json").read_text())
    saved["evaluations"] = [(int(s), float(v)) for s, v in saved["evaluations"]]
    best = path / "best.safetensors"
    return Progress(**saved), load_file(best) if best.exists() else {}


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detach, move to the CPU and make contiguous; of tensors that share memory (tied weights) all are copied."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _evaluations(path: Path) -> int:
    return len(json.loads((path / "progress.json").read_text())["evaluations"])


def _all(folder: Path) -> list[Path]:
    return [p for p in folder.glob("checkpoint-*") if _NAME.fullmatch(p.name)]
