"""``--ray`` on a real cluster: a head without cores and two nodes of one core, all on this machine."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rlrecbench import __version__, registry
from rlrecbench.cli import _main
from rlrecbench.errors import ConfigError
from rlrecbench.execute import cluster
from rlrecbench.execute.scheduler import execute
from rlrecbench.store import Stage, Store, sha256_of
from tests.durability.runs import ENV, HANGS_S, contents, wait_for

SUITE = """
name: small
seeds: [1]
datasets:
  - ml-100k: {last: 12, max_history: 5}
backbones:
  - tiger: {preset: tiny, ids: {kind: rkmeans, levels: 2, codes: 32, dim: 16}}
methods: [most-popular, sft]
train: {epochs: 3, batch_size: 128, lr: 2e-3, eval_examples: 50, checkpoint_minutes: 0.001}
rank: {beams: 10}
stats: {baseline: sft}
"""
PLUGIN = '''
import os, signal, time
from dataclasses import dataclass
from typing import ClassVar
from rlrecbench.store import Stage, stage

@stage
@dataclass(frozen=True)
class Deed(Stage):
    """Do something."""
    name: ClassVar[str] = "test-deed"
    what: str
    parent: "Deed | None" = None

    @property
    def label(self):
        return self.what

    def run(self, folder, store, report):
        print("hello from", self.what, flush=True)
        if self.what == "fail":
            raise RuntimeError("on purpose")
        died = (store.root / self.what).exists()
        (store.root / self.what).write_text("")
        if self.what == "die" or self.what == "die once" and not died:
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "order").write_text(str(time.monotonic_ns()))
'''
FEW = ["--limit-users", "200"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster; its address in ``address``, and ``rob`` kills the node on which a stage is running."""
    # By default workers yield to all other processes, and a lost node is noticed after half a minute.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_health_check_period_ms": "1000", **dict.fromkeys(cluster._OFF, "0")}
    pytest.importorskip("ray", reason="needs the extra [ray]")
    from ray.cluster_utils import Cluster

    memory: dict[str, Any] = {"object_store_memory": 80 << 20, "include_dashboard": False}
    there = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
    workers = [there.add_node(num_cpus=1, **memory) for _ in range(2)]

    def rob() -> None:
        for node in workers:
            raylet = next(p.process.pid for p in node.all_processes["raylet"])
            children = _children(raylet)
            if any("_compute" in _title(child) for child in children):
                for pid in (raylet, *children):
                    os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError("no node runs a stage")

    yield SimpleNamespace(address=there.address, rob=rob)
    there.shutdown()  # type: ignore[no-untyped-call]  # Ray has no annotations there


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def deeds(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module of stages, as a plug-in file brings them."""
    path = tmp_path_factory.mktemp("plugin") / "deeds.py"
    path.write_text(PLUGIN)
    registry.load_file(path)
    return next(m for n, m in sys.modules.items() if n.startswith("rlrecbench_plugin_deeds"))


def _start(folder: Path, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rlrecbench", "run", "x.yaml", *FEW, *arguments]
    return subprocess.Popen(command, cwd=folder, env=ENV, stderr=subprocess.PIPE, text=True, **options)


def _one_core_and_interrupts() -> None:
    """A local run on one core computes with as many threads as a node; a shell may have ignored SIGINT."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.ray
def test_interrupted_terminated_and_robbed_of_a_node_it_ends_with_the_bytes_of_a_local_run(
    tmp_path: Path, nodes: Any
) -> None:
    (tmp_path / "x.yaml").write_text(SUITE)
    store = tmp_path / "far/store"

    def step() -> int:
        found = store.glob("train/*.work/checkpoint-[0-9]*/progress.json")
        return max((int(p.parent.name[11:]) for p in found), default=0)

    def wait_for_checkpoint(process: "subprocess.Popen[str]", after: int) -> None:
        wait_for(lambda: step() > after, process)

    far = ["--ray", nodes.address, "--workers", "1", "--results", "far/small"]
    saved = 0
    for sent, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = _start(tmp_path, *far, preexec_fn=_one_core_and_interrupts)
        wait_for_checkpoint(process, saved)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=HANGS_S)
        assert process.returncode == status, errors
        assert "the state is saved" in errors
        assert step() > saved
        saved = step()
        assert not list(store.glob(".seen-*"))
    process = _start(tmp_path, *far)
    wait_for_checkpoint(process, saved)
    nodes.rob()
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, errors
    assert re.search(r"train ml-100k/.*sft seed 1 lost: its worker on node .* begun again \(1 of 3\)", errors), errors
    near = _start(tmp_path, "--results", "near/small", preexec_fn=_one_core_and_interrupts)
    assert near.wait(timeout=HANGS_S) == 0
    found = contents(tmp_path / "far/small")
    assert len(found) == 6
    assert found == contents(tmp_path / "near/small")


@pytest.mark.ray
def test_a_stage_that_raises_has_failed_and_one_whose_worker_dies_begins_again_three_times(
    tmp_path: Path, nodes: Any, deeds: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    good, bad, dead, once = (deeds.Deed(w) for w in ("good", "fail", "die", "die once"))
    below = [deeds.Deed("below", x) for x in (good, bad, dead, once)]
    done: list[str] = []
    report = execute(
        below, store, partial(cluster.nodes, nodes.address), workers=1, plugins=[Path(deeds.__file__ or "")],
        on_done=lambda s: done.append(" ".join([s.label, *(p.label for p in s.parents)])),
    )  # fmt: skip
    assert sorted(done) == ["below die once", "below good", "die once", "good"]
    assert report.computed == 4
    reasons = {key: f.reason for key, f in report.failures.items()}
    assert set(reasons) == {bad.key, dead.key, below[1].key, below[2].key}
    assert reasons[below[1].key] == reasons[bad.key] == "RuntimeError: on purpose"
    assert reasons[below[2].key].startswith("its worker on node")
    tries = [store.log(s).read_text().count("hello from") for s in (good, bad, once, dead)]
    assert tries == [1, 1, 2, 4]
    order = [int((store.path(s) / "order").read_text()) for s in (good, below[0])]
    assert order == sorted(order)
    assert "begun again (3 of 3)" in capfd.readouterr().err


@pytest.mark.ray
def test_what_the_cluster_lacks_is_one_sentence(tmp_path: Path, nodes: Any, deeds: ModuleType) -> None:
    plugin = Path(deeds.__file__ or "")
    with pytest.raises(ConfigError, match="no node of the Ray cluster has a GPU"):
        execute([_on("cuda")], Store(tmp_path), partial(cluster.nodes, nodes.address), plugins=[plugin], quiet=True)
    import ray

    version, ray.__version__ = ray.__version__, "1.0.0"
    try:
        with pytest.raises(ConfigError, match=r"ersion mismatch.*install the same version of Python and Ray"):
            execute([_on("cpu")], Store(tmp_path), partial(cluster.nodes, nodes.address), quiet=True)
    finally:
        ray.__version__ = version


def _on(device: str) -> Stage:
    from rlrecbench.stages import Collaborate, Prepare

    return Collaborate(Prepare("ml-100k", {}, ""), {"hidden": 8}, 1, device)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "not an address; give auto, local, HOST:PORT or ray://HOST:PORT"),
        ("127.0.0.1:1", "nothing answers there"),
        ("ray://127.0.0.1:1", "nothing answers there"),
        ("127.0.0.1:99999", "nothing answers there"),
    ],
)
def test_a_wrong_address_is_told_before_anything_is_computed(
    address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="needs the extra [ray]")
    (tmp_path / "x.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    assert _main(["run", "x.yaml", "--until", "prepare", "--ray", address]) == 2
    errors = capsys.readouterr().err
    assert f"--ray {address}: " in errors
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob(".seen-*"))


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'rlrecbench\[ray\]'"):
        execute([_on("cpu")], Store(tmp_path), partial(cluster.nodes, "auto"), quiet=True)


def test_a_node_says_what_it_lacks(tmp_path: Path) -> None:
    token, plugin = tmp_path / "token", tmp_path / "mine.py"
    token.write_text("a")
    plugin.write_text("x = 1")
    digests = {str(plugin): sha256_of(plugin)}
    assert cluster._muster(str(token), "a", digests, __version__) == ""
    assert "does not see the store" in cluster._muster(str(token), "b", digests, __version__)
    assert "does not see the store" in cluster._muster(str(tmp_path / "no"), "a", digests, __version__)
    assert "install the same version" in cluster._muster(str(token), "a", digests, "0.0")
    plugin.write_text("x = 2")
    assert f"has another content in plug-in file {plugin}" in cluster._muster(str(token), "a", digests, __version__)
    plugin.unlink()
    assert f"has no plug-in file {plugin}" in cluster._muster(str(token), "a", digests, __version__)


@pytest.mark.parametrize(
    ("resources", "workers", "on_gpu", "places"),
    [
        ({"CPU": 8.0}, None, False, [(1.0, 0.0)] * 8),
        ({"CPU": 32.0}, None, False, [(4.0, 0.0)] * 8),
        ({"CPU": 8.0}, 3, False, [(2.0, 0.0)] * 3),
        ({"CPU": 2.0}, 4, False, [(0.5, 0.0)] * 4),
        ({"CPU": 8.0, "GPU": 1.0}, 2, False, [(4.0, 0.0)] * 2),
        ({"CPU": 17.0, "GPU": 2.0}, 2, True, [(4.0, 0.5)] * 4 + [(1.0, 0.0)]),
        ({"CPU": 16.0, "GPU": 1.0}, None, True, [(15.0, 1.0), (1.0, 0.0)]),
        ({"CPU": 1.0, "GPU": 1.0}, 3, True, [(0.1666, 0.3333)] * 3 + [(0.5, 0.0)]),
        ({"CPU": 8.0}, 2, True, [(4.0, 0.0)] * 2),
    ],
)
def test_a_node_is_cut_into_places(
    resources: dict[str, float], workers: int | None, on_gpu: bool, places: list[tuple[float, float]]
) -> None:
    """N per GPU and one core apart, or N per node; together never more than the node has."""
    nodes = object.__new__(cluster.Nodes)
    nodes.workers, nodes.on_gpu = workers, on_gpu
    found = nodes._cut({"NodeID": "n", "NodeManagerAddress": "a", "Resources": resources})
    assert [(p.cpus, p.gpus) for p in found] == places
    assert sum(p.cpus for p in found) <= resources["CPU"]
    assert sum(p.gpus for p in found) <= resources.get("GPU", 0.0)
