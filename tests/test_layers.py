"""Imports point down the layers, baselines use the API alone, and the light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS: list[set[str]] = [
    {"errors", "registry", "config", "store", "seeds", "allocator", "device", "origin", "checkpoint"},
    {"data", "catalogue"},
    {"policy", "identifiers", "collab"},
    {"backbones"},
    {"method"},
    {"rewards"},
    {"train"},
    {"api"},
    {"conformance"},
    {"metrics"},
    {"stats", "results", "published"},
    {"report"},
    {"stages"},
    {"suite"},
    {"execute", "bench"},
    {"cli"},
]
LEVEL = {name: i for i, layer in enumerate(LAYERS) for name in layer}
# Looked up at run time by name: the registry imports what it registers, the package offers its verbs.
UPWARD = {("registry", "baselines"), ("suite", "suites")}


def _modules() -> list[Path]:
    return sorted((ROOT / "rlrecbench").rglob("*.py"))


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("rlrecbench"):
            parts = node.module.split(".")
            found += [parts[1]] if len(parts) > 1 else [a.name for a in node.names if a.name != "__version__"]
        elif isinstance(node, ast.Import):
            found += [a.name.split(".")[1] for a in node.names if a.name.startswith("rlrecbench.")]
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    layer = path.relative_to(ROOT / "rlrecbench").parts[0].removesuffix(".py")
    if layer in ("__init__", "__main__"):
        return
    for other in _imports(path):
        if other != layer and (layer, other) not in UPWARD:
            assert LEVEL[other] <= LEVEL[layer], f"{layer} imports {other}, which lies above it"


@pytest.mark.parametrize("path", sorted((ROOT / "baselines").glob("*.py")), ids=lambda p: p.stem)
def test_baselines_import_the_api_only(path: Path) -> None:
    assert set(_imports(path)) <= {"api"}


@pytest.mark.parametrize("module", ["rlrecbench.cli", "rlrecbench.results", "rlrecbench.report", "rlrecbench.metrics"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
