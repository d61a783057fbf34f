"""The committed leaderboards come out of the committed records, byte for byte, where torch is not installed."""

import subprocess
import sys
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
# A folder with records that git knows; those of a reader's own runs are not held to it.
COMMITTED = [RESULTS / name for name in ("paper-cpu", "paper-cpu-beauty")]
REPORT = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
from rlrecbench.cli import main
main()
"""


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda p: p.name)
def test_the_tables_are_those_of_the_records(folder: Path, tmp_path: Path) -> None:
    options = ["report", str(folder), "--published", "--compare-order", "--format", "md", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-c", REPORT, *options], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == {"leaderboard.md", "published.md", "order.md"}
    assert made == {name: (folder / name).read_bytes() for name in made}
