"""Which stage runs next, and what becomes of it; where it runs is the matter of a crew.

A stage begins as soon as its parents are published. One that fails blocks its descendants and nothing else; one
whose worker is lost is given to another worker as often as the crew allows.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from rlrecbench.errors import StoreError
from rlrecbench.execute.progress import Display
from rlrecbench.execute.worker import Message
from rlrecbench.store import Stage, Store, closure

_GRACE_S = 20.0
Policy = Literal["missing", "always", "never"]


@dataclass(frozen=True)
class Failure:
    """Why a stage is not there."""

    stage: Stage
    reason: str
    log: Path


@dataclass
class Report:
    """What an execution did."""

    computed: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)  # by stage key, blocked descendants included
    seconds: float = 0.0


class Terminated(BaseException):
    """SIGTERM arrived; the state is saved."""


class Crew(Protocol):
    """Workers at numbered places, one stage at a place at a time.

    Attributes:
        retries: How often a stage is begun again after its worker was lost.
    """

    retries: int

    def places(self) -> Sequence[int]:
        """The places where stages can run now, busy ones included."""

    def suits(self, place: int, stage: Stage) -> bool:
        """Tell whether the stage may run at this idle place."""

    def begin(self, place: int, stage: Stage) -> None:
        """Give a stage to an idle place."""

    def listen(self) -> Sequence[tuple[int, Message]]:
        """Wait, a second at most, and return what was heard from which place; "lost": the worker is no more."""

    def stop(self, grace: float) -> int:
        """End all workers; those at work get ``grace`` seconds to save their state. Returns how many did not."""


class Recruit(Protocol):
    """Makes a crew, which is there while the context lasts."""

    def __call__(
        self, store: Store, todo: Sequence[Stage], *, workers: int | None, plugins: Sequence[Path], again: bool
    ) -> AbstractContextManager[Crew]:
        """Make a crew.

        Args:
            store: Where results are published.
            todo: What will be computed.
            workers: How many stages at once; None: what suits the machine.
            plugins: Files every worker imports.
            again: Compute what is done already.
        """


def execute(
    stages: Sequence[Stage],
    store: Store,
    recruit: Recruit,
    *,
    workers: int | None = None,
    plugins: Sequence[Path] = (),
    policy: Policy = "missing",
    stop_on_error: bool = False,
    quiet: bool = False,
    on_done: Callable[[Stage], None] = lambda stage: None,
) -> Report:
    """Compute the stages and all they need.

    Args:
        stages: What is wanted.
        store: Where results are published.
        recruit: Makes the crew: :func:`rlrecbench.execute.local.processes`, :func:`rlrecbench.execute.cluster.nodes`.
        workers: How many stages at once; None: what suits the machine.
        plugins: Files every worker imports.
        policy: "missing": compute what is not done; "always": compute all again; "never": nothing.
        stop_on_error: Begin no stage after one has failed.
        quiet: Show no progress.
        on_done: Called with every stage that has been published.

    Raises:
        KeyboardInterrupt: SIGINT; running stages have saved their state.
        Terminated: SIGTERM under :func:`heed_sigterm`, likewise.
        ConfigError: There is no crew to be had; the message says why.
        StoreError: The store cannot be written.
    """
    report = Report()
    todo = _pending(stages, store, policy, report)
    if todo:
        with recruit(store, todo, workers=workers, plugins=plugins, again=policy == "always") as crew:
            Scheduler(todo, store, crew, report, stop_on_error=stop_on_error, quiet=quiet, on_done=on_done).run()
    return report


def _pending(stages: Sequence[Stage], store: Store, policy: Policy, report: Report) -> list[Stage]:
    """Return what has to be computed, parents first; with the policy "never" report it as failed instead.

    Raises:
        StoreError: The store cannot be written.
    """
    todo = [s for s in closure(stages) if policy == "always" or not store.intact(s)]
    if todo and policy == "never":
        missing = Failure(todo[0], "not computed yet, and --policy never computes nothing", store.log(todo[0]))
        report.failures = {s.key: missing for s in todo}
        return []
    if todo:
        _writable(store)
    return todo


class Scheduler:
    """Gives stages to a crew until all are done or cannot be.

    Args:
        todo: What to compute, parents first.
        store: Where results are published.
        crew: Who computes.
        report: Is told what became of every stage.
        stop_on_error: Begin no stage after one has failed.
        quiet: Show no progress.
        on_done: Called with every stage that has been published.
    """

    def __init__(
        self,
        todo: Sequence[Stage],
        store: Store,
        crew: Crew,
        report: Report,
        *,
        stop_on_error: bool,
        quiet: bool,
        on_done: Callable[[Stage], None],
    ) -> None:
        self.store, self.crew, self.report = store, crew, report
        self.stop_on_error, self.on_done = stop_on_error, on_done
        self.waiting = list(todo)
        self.open = {s.key for s in todo}  # not published in this run yet
        self.running: dict[int, Stage] = {}  # by place
        self.lost: Counter[str] = Counter()  # workers, by stage key
        self.display = Display(len(todo), len(crew.places()), quiet=quiet)

    def run(self) -> None:
        """Compute everything.

        Raises:
            KeyboardInterrupt: SIGINT; running stages have saved their state, unless a second one cut that short.
            Terminated: SIGTERM, likewise.
        """
        start = time.monotonic()
        try:
            with self.display:
                self._assign()
                while self.running or self.waiting:
                    for place, message in self.crew.listen():
                        self._hear(place, message)
                    self._assign()
        except BaseException:
            try:
                late = self.crew.stop(_GRACE_S)
            except BaseException:  # stopped again: no more patience
                self.crew.stop(0.0)
                raise
            if late:
                print(
                    f"rlrecbench: {late} of the running stages did not stop within {_GRACE_S:.0f} s; a training goes "
                    "on from its last checkpoint",
                    file=sys.stderr,
                )
            raise
        finally:
            self.report.seconds = time.monotonic() - start
        self.crew.stop(0.0)

    def _assign(self) -> None:
        """Give every idle place a stage whose parents are there."""
        if self.stop_on_error and self.report.failures:
            self.waiting.clear()
        places = self.crew.places()
        self.display.slots = max(1, len(places))
        for place in places:
            stage = self._next(place) if place not in self.running else None
            if stage is not None:
                self.waiting.remove(stage)
                self.running[place] = stage
                self.display.start(place, stage)
                self.crew.begin(place, stage)

    def _next(self, place: int) -> Stage | None:
        ready = (s for s in self.waiting if not any(p.key in self.open for p in s.parents))
        return next((s for s in ready if self.crew.suits(place, s)), None)

    def _hear(self, place: int, message: Message) -> None:
        if message.kind == "progress":
            self.display.progress(place, message.done, message.total, message.note, self.waiting)
            return
        stage = self.running.pop(place)
        failure = ""
        if message.kind == "done":
            self.open.discard(stage.key)
            self.report.computed += message.computed
            self.on_done(stage)
        elif message.kind == "lost" and self.lost[stage.key] < self.crew.retries:
            self.lost[stage.key] += 1
            self.waiting.insert(0, stage)
            again = f"begun again ({self.lost[stage.key]} of {self.crew.retries})"
            self.display.again(place, f"{message.note}; {again}", self.waiting)
            return
        else:
            failure = message.note
            self._fail(stage, failure)
        self.display.finish(place, self.waiting, computed=message.computed, failure=failure)

    def _fail(self, stage: Stage, reason: str) -> None:
        failure = Failure(stage, reason, self.store.log(stage))
        failed = {stage.key}
        for other in list(self.waiting):
            if any(p.key in failed for p in closure([other])):
                failed.add(other.key)
                self.waiting.remove(other)
        for key in failed:
            self.report.failures.setdefault(key, failure)


def _writable(store: Store) -> None:
    probe = store.root / f".probe-{os.getpid()}"
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as e:
        raise StoreError(
            f"{store.root} cannot be written: {e.strerror}; give another folder (--results DIR, RLRECBENCH_STORE)"
        ) from e


@contextlib.contextmanager
def heed_sigterm() -> Iterator[None]:
    """Turn SIGTERM into :class:`Terminated`; outside the main thread, where no handler can be set, leave it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
