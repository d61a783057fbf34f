"""Which code and which machine computed something: kept with every stage, and from there in every record."""

import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("rlrecbench", "torch", "transformers", "recbole", "accelerate", "numpy", "pandas", "scikit-learn")


def origin(device: str) -> dict[str, Any]:
    """Describe this process as the one that computes.

    Args:
        device: "auto", "cpu" or "cuda".

    Returns:
        ``device``, ``commit`` and ``versions``.
    """
    return {"device": _machine(device), "commit": _commit(), "versions": _versions()}


@lru_cache
def _versions() -> dict[str, str]:
    """Versions of the packages that matter."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@lru_cache
def _commit() -> str | None:
    """The git commit of the package's source, with "+changes" if it was edited; None outside a checkout."""
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "HEAD").strip()
        return head + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no").strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - fixed words, no shell
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is found on the PATH like everywhere
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout


def _machine(device: str) -> str:
    """What the numbers are computed on."""
    if device != "cpu":
        import torch

        from rlrecbench.device import device_of

        if device_of(device).type == "cuda":
            return str(torch.cuda.get_device_name())
    return f"cpu ({platform.machine()})"
