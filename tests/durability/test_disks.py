"""Disks that are full or may not be written: one sentence, nothing lost, and the same bytes with space again."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rlrecbench import checkpoint
from rlrecbench.errors import StoreError
from rlrecbench.store import Store

from .runs import ONE, Run
from .test_damage import Word

INSIDE = ("unshare", "-rm", "sh", "-c")  # a namespace whose mounts nobody else sees, and that end with it


@pytest.fixture(scope="session", autouse=True)
def mounts() -> None:
    """Skip where a user may not mount."""
    try:
        subprocess.run([*INSIDE, "mount -t tmpfs none /mnt"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        pytest.skip(f"needs to mount a file system in a namespace of its own (unshare -rm): {e}")


FILL = """
import sys
from pathlib import Path
from rlrecbench.store import Store
from tests.durability.test_disks import Large
try:
    Store(Path(sys.argv[1])).ensure(Large(sys.argv[2]))
except Exception as e:
    print(type(e).__name__, e)
print(sorted(p.name for p in Path(sys.argv[1]).glob("test-word/*") if p.is_dir()))
"""


class Large(Word):
    """Write more than a megabyte in one way or another."""

    def run(self, folder: Path, store: Store, report: object) -> None:
        """Write."""
        values = np.zeros(400_000)
        if self.word == "numpy":
            np.save(folder / "values.npy", values)
        elif self.word == "checkpoint":
            checkpoint.save(folder, 1, {"model": {"w": torch.from_numpy(values)}}, {})
        else:
            (folder / "values").write_bytes(values.tobytes())


@pytest.mark.parametrize("how", ["numpy", "checkpoint", "bytes"])
def test_a_full_disk_is_called_so_whoever_meets_it(tmp_path: Path, how: str) -> None:
    """Of numpy one hears how much it wrote, safetensors raises an error of its own, Python says it."""
    command = f"mount -t tmpfs -o size=1m none {tmp_path} && cd {Path.cwd()} && {sys.executable} - {tmp_path} {how}"
    done = subprocess.run([*INSIDE, command], input=FILL, capture_output=True, text=True, check=False)
    said, folders = done.stdout.splitlines()
    assert said.startswith(f"StoreError {tmp_path} cannot be written: No space left on device; free some space or")
    assert folders == f"['{Store(tmp_path).work(Large(how)).name}']"


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [200, 1000, 2500])
def test_a_full_store_ends_a_run_well_and_with_space_it_goes_on(tmp_path: Path, finished: Run, kilobytes: int) -> None:
    """About 40 s each. The store is small at first: it has room for the data, for half a training, for a bit more."""
    run = Run(tmp_path, *ONE)
    run.store.mkdir(parents=True)
    mount = f"mount -t tmpfs -o size={kilobytes}k none {run.store} && "
    kept = tmp_path / "kept"
    status = run.finish(before=(*INSIDE, f'{mount}"$@"; s=$?; cp -a {run.store} {kept}; exit $s', "-"))
    said = " ".join(run.said().split())
    assert status in (2, 3), said
    assert "cannot be written: No space left on device" in said
    assert "Traceback" not in said
    run.store.rmdir()
    kept.rename(run.store)
    assert run.finish() == 0, run.said()
    assert "damaged" not in run.said()
    assert run.contents() == finished.contents()


def test_a_store_that_may_not_be_written_serves_what_is_there(tmp_path: Path, finished: Run) -> None:
    """Looking, running what is done and exporting write nothing to the store; what is missing is refused."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path, *ONE)
    (run.results / "cells/ml-100k/tiger/sft/seed-1/metrics.json").unlink()
    readonly = (*INSIDE, f'mount --bind {run.store} {run.store} && mount -o remount,bind,ro {run.store} && "$@"', "-")
    assert run.finish(before=readonly) == 0, run.said()
    assert "nothing to compute" in run.said()
    assert run.contents() == finished.contents()
    looked = run.call("status", "results/small", before=readonly)
    assert looked.returncode == 0
    assert "2 done" in looked.stdout
    assert run.finish("--set", "seeds=[2]", before=readonly) == 2
    assert run.said().count("\n") == 1
    assert "store cannot be written: Read-only file system" in run.said()


def test_results_that_may_not_be_written_are_refused_in_a_sentence(tmp_path: Path, finished: Run) -> None:
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    run = Run(tmp_path, *ONE)
    readonly = (*INSIDE, 'mount --bind results results && mount -o remount,bind,ro results && "$@"', "-")
    assert run.call("report", "results/small", before=readonly).returncode == 0
    refused = run.call("report", "results/small", "--out", "results/new", before=readonly)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert run.finish(before=readonly) == 2
    assert run.said().count("\n") == 1
    assert "cannot be written: Read-only file system" in run.said()


def test_an_error_that_is_not_the_disks_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        Store(tmp_path / "file" / "store").ensure(Word("hello"))
