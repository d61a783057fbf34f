"""The crew of ``--ray``: one Ray task for each stage, on nodes that share the store's folder.

What travels is a stage as JSON and paths. The store, plug-in files, data folders and models must have the same
absolute path on every node; before anything is computed each node shows that it sees the store and the plug-ins.

Ray repeats nothing itself (``max_retries=0``): a stage whose worker or node is lost begins again elsewhere from its
last checkpoint, and a stage that raises has failed. A node that is only cut off may still be computing: it holds the
stage's lock, and the second try waits for it. The kernel frees the lock of a dead process on the same machine; on NFS
4 the server does so when the dead node's lease ends (90 s by default). The file system must support flock.
"""

import contextlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlrecbench import __version__
from rlrecbench.errors import ClusterLostError, ConfigError
from rlrecbench.execute.local import cores
from rlrecbench.execute.scheduler import Crew
from rlrecbench.execute.worker import Interrupted, Message, Order, carry_out, settle, visible
from rlrecbench.store import Stage, Store, sha256_of, to_json

_CONNECT_S, _MUSTER_S, _ROLL_S, _LATE_S = 12.0, 120.0, 5.0, 60.0
# Ray would report usage, hide the GPUs from tasks that ask for none, and under `uv run` have every worker make an
# environment of its own instead of using that of its node, which may take minutes.
_OFF = ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_ENABLE_UV_RUN_RUNTIME_ENV")
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_ADDRESS = re.compile(r"auto|local|(ray://)?(?P<host>[^/\s:]+|\[[^\]\s]+\]):(?P<port>\d+)")


@contextlib.contextmanager
def nodes(
    address: str,
    store: Store,
    todo: Sequence[Stage],
    *,
    workers: int | None,
    plugins: Sequence[Path],
    again: bool,
) -> Iterator[Crew]:
    """The crew of a run with ``--ray``.

    Args:
        address: "auto", "local", HOST:PORT or ray://HOST:PORT.
        store: Where results are published; a folder that every node sees under the same path.
        todo: What will be computed.
        workers: Stages at once per GPU, and per node without one; None: one per GPU, one per core (eight at most).
        plugins: Files every worker imports.
        again: Compute what is done already.

    Raises:
        ConfigError: Ray is missing or does not answer, or a node lacks what the run needs.
    """
    with _connected(address) as ray, _token(store) as token:
        yield Nodes(ray, store, todo, workers, plugins, token, again=again)


@dataclass
class _Place:
    """A share of a node."""

    node: str
    address: str
    cpus: float
    gpus: float
    stage: Stage | None = None
    task: Any = None
    answer: "Future[Any] | None" = None
    beat: str = ""


class Nodes:
    """The nodes of a Ray cluster, each cut into places.

    A GPU gives N places with 1/N of it each, and its node one more place with one core for stages that need no
    accelerator; a node without GPU gives N places. The cores of a node are divided among its places.

    Args:
        ray: The connected library.
        store: Where results are published.
        todo: What will be computed.
        workers: N; None: 1 per GPU, and one per core (eight at most) on a node without.
        plugins: Files every worker imports.
        token: A file in the store that every node has to see.
        again: Compute what is done already.

    Raises:
        ConfigError: A node lacks what the run needs, or there is no node.
    """

    retries = 3

    def __init__(
        self,
        ray: Any,
        store: Store,
        todo: Sequence[Stage],
        workers: int | None,
        plugins: Sequence[Path],
        token: Path,
        *,
        again: bool,
    ) -> None:
        self.ray, self.store, self.workers, self.again = ray, store, workers, again
        self.plugins = tuple(str(p) for p in plugins)
        self.needs = (str(token), token.read_text(), {p: sha256_of(Path(p)) for p in self.plugins}, __version__)
        self.devices = {getattr(s, "device", "cpu") for s in todo}
        self.together = max(getattr(s, "processes", 1) for s in todo)  # processes of one training
        self.slots: dict[int, _Place] = {}
        self.joining: dict[str, tuple[dict[str, Any], Future[str]]] = {}  # nodes that have not answered yet
        self.known: set[str] = set()
        self.shunned: defaultdict[str, set[str]] = defaultdict(set)  # stage key -> nodes that lost it
        self.looked = self.called = time.monotonic()
        self.on_gpu = False
        self._first_roll()

    def places(self) -> Sequence[int]:
        """The places of the nodes that are alive."""
        return sorted(self.slots)

    def suits(self, place: int, stage: Stage) -> bool:
        """A GPU for what computes on one; not the node that lost the stage before, if there is another."""
        slot = self.slots[place]
        if (slot.gpus > 0) != self._wants_gpu(stage):
            return False
        shunned = self.shunned[stage.key]
        return slot.node not in shunned or all(s.node in shunned for s in self.slots.values() if s.gpus == slot.gpus)

    def begin(self, place: int, stage: Stage) -> None:
        """Submit the stage's task."""
        slot = self.slots[place]
        order = Order(to_json(stage), self.plugins, str(self.store.root), self.again)
        slot.stage, slot.beat = stage, self._beat(stage)
        slot.task = self._remote(_compute, slot.node, num_cpus=slot.cpus, num_gpus=slot.gpus).remote(
            tuple(order), max(1, int(slot.cpus))
        )
        slot.answer = slot.task.future()

    def listen(self) -> Sequence[tuple[int, Message]]:
        """Wait for a task to end, a second at most; once a second read the running stages' heartbeats."""
        answers = {slot.answer: i for i, slot in self.slots.items() if slot.answer is not None}
        if not answers:
            time.sleep(1.0)
        done = wait(answers, timeout=1.0, return_when=FIRST_COMPLETED).done
        heard = [(answers[a], self._ended(self.slots[answers[a]])) for a in done]
        if time.monotonic() - self.looked >= 1.0:
            self.looked = time.monotonic()
            heard += [(i, m) for i, slot in self.slots.items() if (m := self._progress(slot)) is not None]
        if time.monotonic() - self.called >= _ROLL_S:
            self._call_roll()
        return heard

    def stop(self, grace: float) -> int:
        """Cancel all tasks; those at work get ``grace`` seconds to save their state. Returns how many did not."""
        late = 0
        busy = [slot for slot in self.slots.values() if slot.answer is not None]
        for force in (False, True):
            for slot in busy:
                with contextlib.suppress(Exception):
                    self.ray.cancel(slot.task, force=force)
            wait([slot.answer for slot in busy if slot.answer is not None], timeout=grace if not force else 1.0)
            busy = [slot for slot in busy if slot.answer is not None and not slot.answer.done()]
            late = late if force else len(busy)
        return late

    def _wants_gpu(self, stage: Stage) -> bool:
        return self.on_gpu and getattr(stage, "device", "cpu") != "cpu"

    def _remote(self, function: Callable[..., Any], node: str, **resources: float) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return self.ray.remote(function).options(max_retries=0, scheduling_strategy=there, **resources)

    def _ended(self, slot: _Place) -> Message:
        assert slot.stage is not None and slot.answer is not None  # noqa: S101, PT018 - it was busy
        stage, answer, slot.stage, slot.answer, slot.task = slot.stage, slot.answer, None, None, None
        try:
            message = Message(*answer.result())
        except self.ray.exceptions.RayTaskError as e:
            return Message("failed", note=f"on {slot.address}: {_last_line(e)}")
        except Exception as e:
            self.shunned[stage.key].add(slot.node)
            self.called = 0.0  # look at once whether the node is still there, before it gets another stage
            full = type(e).__name__ == "OutOfMemoryError"
            why = "ran out of memory; use fewer --workers" if full else f"is no more ({type(e).__name__})"
            return Message("lost", note=f"its worker on node {slot.address} {why}")
        if message.kind == "done" and not visible(self.store, [stage], _LATE_S):
            return Message("failed", note=f"{slot.address} has published it, but {self.store.path(stage)} is not there")
        return message

    def _beat(self, stage: Stage) -> str:
        try:
            return self.store.heartbeat(stage).read_text()
        except OSError:
            return ""

    def _progress(self, slot: _Place) -> Message | None:
        """What a stage has reported since the last look, if anything."""
        text = self._beat(slot.stage) if slot.stage is not None else ""
        if text in ("", slot.beat):
            return None
        slot.beat = text
        try:
            beat = json.loads(text)
        except ValueError:  # read while it was being written
            return None
        return Message("progress", beat["done"], beat["total"], beat["note"])

    def _first_roll(self) -> None:
        self._greet({n["NodeID"]: n for n in self.ray.nodes() if n["Alive"]})
        wait([answer for _, answer in self.joining.values()], timeout=_MUSTER_S)
        for node, answer in self.joining.values():
            if why := _refusal(node, answer):
                raise ConfigError(f"--ray: {why}")
        self.on_gpu = self.devices != {"cpu"} and any(n["Resources"].get("GPU") for n, _ in self.joining.values())
        if "cuda" in self.devices and not self.on_gpu:
            raise ConfigError("--device cuda: no node of the Ray cluster has a GPU; use --device cpu or auto")
        if self.on_gpu and self.together > 1:
            raise ConfigError(
                f"train.processes: {self.together}: with --ray a training gets one GPU at most; set it to 1, or run "
                "without --ray on the machine that has the GPUs"
            )
        self._admit()
        if not self.slots:
            raise ConfigError("--ray: no node of the cluster has a core to compute on; add one (ray start)")

    def _call_roll(self) -> None:
        """Drop the idle places of dead nodes, and let new nodes in."""
        self.called = time.monotonic()
        alive = {n["NodeID"]: n for n in self.ray.nodes() if n["Alive"]}
        self.slots = {i: s for i, s in self.slots.items() if s.node in alive or s.answer is not None}
        self._greet(alive)
        self._admit()
        if not self.joining and not any(s.gpus or not self.on_gpu for s in self.slots.values()):
            what = "nodes with a GPU" if self.on_gpu else "nodes"
            raise ClusterLostError(f"all {what} of the Ray cluster are gone; run the same command again to go on")

    def _greet(self, alive: dict[str, dict[str, Any]]) -> None:
        """Ask nodes that are new whether they have what is needed."""
        for key, node in alive.items():
            if key not in self.known and node["Resources"].get("CPU"):
                self.known.add(key)
                self.joining[key] = node, self._remote(_muster, key, num_cpus=0).remote(*self.needs).future()

    def _admit(self) -> None:
        for key, (node, answer) in list(self.joining.items()):
            if not answer.done():
                continue
            del self.joining[key]
            if why := _refusal(node, answer):
                print(f"rlrecbench: left out: {why}", file=sys.stderr)
                continue
            first = max(self.slots, default=-1) + 1
            self.slots |= dict(enumerate(self._cut(node), first))

    def _cut(self, node: dict[str, Any]) -> list[_Place]:
        """The places of a node."""
        key, address, has = node["NodeID"], node["NodeManagerAddress"], node["Resources"]
        cpus, gpus = has["CPU"], int(has.get("GPU", 0)) if self.on_gpu else 0
        if not gpus:
            n = self.workers or max(1, min(8, int(cpus)))
            return [_Place(key, address, _share(cpus, n), 0.0) for _ in range(n)]
        n = gpus * (self.workers or 1)
        rest = cpus - 1 if cpus > n else cpus / 2
        on_gpu = [_Place(key, address, _share(rest, n), _share(gpus, n)) for _ in range(n)]
        return [*on_gpu, _Place(key, address, min(1.0, _share(cpus - rest, 1)), 0.0)]


def _compute(order: tuple[Any, ...], threads: int) -> tuple[Any, ...]:
    """Runs on a node: compute one stage. Ray cancels by an interrupt, which lets the stage save its state."""
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    settle(threads)
    try:
        return tuple(carry_out(Order(*order), lambda message: None, stop, threads, patience=_LATE_S))
    except Interrupted:
        return tuple(Message("failed", note="interrupted"))
    finally:
        signal.signal(signal.SIGINT, before)


def _muster(token: str, text: str, plugins: dict[str, str], version: str) -> str:
    """Runs on a node: what it lacks, or nothing."""
    if __version__ != version:
        return f"has rlrecbench {__version__} and this machine {version}; install the same version on all nodes"
    path = Path(token)
    try:
        seen = path.read_text() == text
    except OSError:
        seen = False
    if not seen:
        return (
            f"does not see the store {path.parent}; put it on storage that all nodes mount under the same path "
            "(--results DIR, RLRECBENCH_STORE)"
        )
    if not os.access(path.parent, os.W_OK):
        return f"may not write to the store {path.parent}; give it the right to"
    for plugin, digest in plugins.items():
        if not Path(plugin).is_file() or sha256_of(Path(plugin)) != digest:
            state = "another content in" if Path(plugin).is_file() else "no"
            return f"has {state} plug-in file {plugin}; put it on storage that all nodes mount under the same path"
    return ""


def _refusal(node: dict[str, Any], answer: "Future[str]") -> str:
    """Why a node cannot take part, as a sentence; "" if it can."""
    where = f"node {node['NodeManagerAddress']}"
    if not answer.done():
        return f"{where} has not begun to work after {_MUSTER_S:.0f} s; see its logs (ray logs), or take it out"
    try:
        why = answer.result()
    except Exception as e:
        return f"{where} cannot run rlrecbench: {_last_line(e)}; install it with the same Python and Ray on all nodes"
    return f"{where} {why}" if why else ""


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine; afterwards leave it.

    Raises:
        ConfigError: Ray is not installed, the address is none, or no cluster of this version answers there.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"--ray {address}: not an address; give auto, local, HOST:PORT or ray://HOST:PORT")
    for name in _OFF:
        os.environ.setdefault(name, "0")
    try:
        import ray
    except ImportError as e:
        raise ConfigError(
            "--ray needs the package ray: pip install 'rlrecbench[ray]' here and on every node; "
            "without --ray the suite runs on this machine"
        ) from e
    if os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0":  # Ray has read it already if somebody else imported it
        ray._private.ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV = False
    if ray.is_initialized():
        raise ConfigError("this process is connected to a Ray cluster already; call ray.shutdown() first")
    before = signal.getsignal(signal.SIGTERM)  # Ray puts its own in place
    try:
        if address == "local":
            ray.init("local", num_cpus=cores(), include_dashboard=False, **_QUIET)
        else:
            if found["host"]:
                _answers(address, found["host"].strip("[]"), int(found["port"]))
            _join(ray, address)
        signal.signal(signal.SIGTERM, before)
        yield ray
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def _answers(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=5.0).close()
    except (OSError, OverflowError) as e:
        raise ConfigError(
            f"--ray {address}: nothing answers there ({getattr(e, 'strerror', None) or e}); "
            "start a cluster (ray start --head), or use --ray local"
        ) from e


def _join(ray: Any, address: str) -> None:
    """Connect within some seconds; Ray itself would try for minutes."""
    failed: list[Exception] = []

    def init() -> None:
        try:
            ray.init(address, **_QUIET)
        except Exception as e:
            failed.append(e)

    thread = threading.Thread(target=init, daemon=True)
    thread.start()
    thread.join(_CONNECT_S)
    if thread.is_alive():
        raise ConfigError(
            f"--ray {address}: no Ray cluster has answered in {_CONNECT_S:.0f} s; "
            "look whether it is up (ray status) and whether the port is that of its head"
        )
    if failed:
        text = " ".join(str(failed[0]).split())
        if "ersion mismatch" in text or ("version" in text and "does not match" in text):
            text += "; install the same version of Python and Ray here and on the cluster"
        elif "Could not find any running Ray instance" in text:
            text = "no Ray cluster is running on this machine; start one (ray start --head), or use --ray local"
        raise ConfigError(f"--ray {address}: {text}") from failed[0]


@contextlib.contextmanager
def _token(store: Store) -> Iterator[Path]:
    """A file in the store by which a node shows that it sees this store and not one of its own."""
    path = store.root / f".seen-{secrets.token_hex(8)}"
    path.write_text(secrets.token_hex(8))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _share(amount: float, n: int) -> float:
    """An n-th of a resource as Ray counts it: whole numbers from 1 on, four digits below."""
    share = amount / n
    return float(int(share)) if share >= 1 else int(share * 10_000) / 10_000


def _last_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[-1].strip()
