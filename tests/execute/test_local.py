"""The local executor: order, failures, dying processes, policies."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from rlrecbench import registry
from rlrecbench.errors import StoreError
from rlrecbench.execute.local import processes
from rlrecbench.execute.progress import Clock, Running, duration
from rlrecbench.execute.scheduler import execute
from rlrecbench.store import Store

# Workers are fresh processes: what they compute must come from a file they can import, like a user's plug-in.
STAGES = '''
import os, signal, time
from dataclasses import dataclass
from typing import ClassVar
from rlrecbench.store import Stage, stage

@stage
@dataclass(frozen=True)
class Act(Stage):
    """Do something."""
    name: ClassVar[str] = "test-act"
    what: str
    parent: "Act | None" = None

    @property
    def label(self):
        return self.what

    def run(self, folder, store, report):
        report(0, 2, "begun")
        print("hello from", self.what)
        if self.what.startswith("fail"):
            raise RuntimeError("on purpose")
        if self.what.startswith("memory"):
            raise MemoryError
        if self.what.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "order").write_text(str(time.monotonic_ns()))
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with stages."""
    path = tmp_path_factory.mktemp("plugin") / "acts.py"
    path.write_text(STAGES)
    return path


@pytest.fixture(scope="module")
def acts(plugin: Path) -> ModuleType:
    """The module made from it."""
    registry.load_file(plugin)
    return next(m for n, m in sys.modules.items() if n.startswith("rlrecbench_plugin_acts"))


def test_failures_block_their_descendants_and_nothing_else(tmp_path: Path, plugin: Path, acts: ModuleType) -> None:
    store = Store(tmp_path / "store")
    good = acts.Act("good")
    child = acts.Act("child", good)
    bad, dead, full = acts.Act("fail"), acts.Act("die"), acts.Act("memory")
    below = [acts.Act("below", x) for x in (bad, dead, full)]
    deeper = acts.Act("deeper", below[0])
    done: list[str] = []
    report = execute(
        [*below, deeper, child], store, processes, workers=2, plugins=[plugin], quiet=True,
        on_done=lambda s: done.append(s.label),
    )  # fmt: skip
    assert sorted(done) == ["child", "good"]
    assert report.computed == 2
    assert store.has(child)
    order = [int((store.path(s) / "order").read_text()) for s in (good, child)]
    assert order == sorted(order)
    reasons = {key: f.reason for key, f in report.failures.items()}
    assert reasons[bad.key] == reasons[below[0].key] == reasons[deeper.key] == "RuntimeError: on purpose"
    assert "killed by signal 9" in reasons[dead.key]
    assert "fewer --workers" in reasons[below[1].key]
    assert "out of memory; lower" in reasons[full.key]
    assert "hello from fail" in report.failures[deeper.key].log.read_text()
    assert "RuntimeError" in store.log(bad).read_text()
    assert not store.has(bad)
    again = execute([good, child], store, processes, workers=1, plugins=[plugin], quiet=True)
    assert (again.computed, again.failures) == (0, {})


def test_policies_and_stop_on_error(tmp_path: Path, plugin: Path, acts: ModuleType) -> None:
    store = Store(tmp_path / "store")
    a, b = acts.Act("a"), acts.Act("b")
    never = execute([a], store, processes, policy="never", quiet=True)
    assert a.key in never.failures
    assert not store.has(a)
    execute([a], store, processes, workers=1, plugins=[plugin], quiet=True)
    assert execute([a], store, processes, workers=1, plugins=[plugin], policy="always", quiet=True).computed == 1
    stopped = execute(
        [acts.Act("fail"), b], store, processes, workers=1, plugins=[plugin], stop_on_error=True, quiet=True
    )
    assert stopped.computed == 0
    assert not store.has(b)


def test_outside_the_main_thread(tmp_path: Path, plugin: Path, acts: ModuleType) -> None:
    """Where no signal handler can be set."""
    with ThreadPoolExecutor() as pool:
        done = pool.submit(
            execute, [acts.Act("a")], Store(tmp_path), processes, workers=1, plugins=[plugin], quiet=True
        ).result(timeout=600)
    assert done.computed == 1


def test_a_store_that_cannot_be_written(tmp_path: Path, acts: ModuleType) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        execute([acts.Act("a")], Store(tmp_path / "file" / "store"), processes, quiet=True)


def test_time_left(acts: ModuleType) -> None:
    """Two finished stages of 10 and 20 s: a waiting one counts 15 s; on two slots two of them take 15 s."""
    clock = Clock()
    a = acts.Act("x")
    assert clock.left([], [a], 1) is None
    clock.took(a, 10)
    clock.took(a, 20)
    assert clock.left([], [a, a], 2) == 15
    assert clock.left([], [], 2) == 0
    run = Running(a, begun=0.0, share=0.0)
    assert clock.left([run], [], 1) == 0  # late already: nothing more is promised


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
