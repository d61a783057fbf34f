"""What a run shows: a bar per running stage and one for all, with the time left; plain lines without a terminal."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rlrecbench.store import Stage


@dataclass
class Running:
    """A stage at work."""

    stage: Stage
    begun: float
    share: float = 0.0
    task: TaskID | None = None


@dataclass
class Clock:
    """Estimates the time left from what finished stages of the same kind took."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def took(self, stage: Stage, seconds: float) -> None:
        """Remember a finished stage."""
        self.seconds.setdefault(_kind(stage), []).append(seconds)

    def expected(self, stage: Stage) -> float | None:
        """Seconds that a stage should take; None while nothing like it has finished."""
        for kind in (_kind(stage), stage.name):
            known = [s for k, v in self.seconds.items() if k == kind or k.startswith(kind + " ") for s in v]
            if known:
                return sum(known) / len(known)
        return None

    def left(self, running: list[Running], waiting: list[Stage], slots: int) -> float | None:
        """Seconds until all is done; None while it cannot be told."""
        total = 0.0
        longest = 0.0
        for run in running:
            elapsed = time.monotonic() - run.begun
            expected = elapsed / run.share if run.share > 0.02 else self.expected(run.stage)
            if expected is None:
                return None
            total += max(expected - elapsed, 0.0)
            longest = max(longest, expected - elapsed)
        for stage in waiting:
            expected = self.expected(stage) or self._like_running(stage, running)
            if expected is None:
                return None
            total += expected
        return max(total / slots, longest)

    def _like_running(self, stage: Stage, running: list[Running]) -> float | None:
        """Projected length of the running stages of the same name; a cheap stage counts a second."""
        lengths = [
            (time.monotonic() - r.begun) / r.share for r in running if r.stage.name == stage.name and r.share > 0.02
        ]
        if lengths:
            return sum(lengths) / len(lengths)
        return 1.0 if stage.name in ("prepare", "identify", "rank", "score") else None


class Display:
    """Progress on stderr.

    Args:
        total: Stages to compute.
        slots: Stages computed at once.
        quiet: Show nothing.
    """

    def __init__(self, total: int, slots: int, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.total, self.slots, self.done = total, slots, 0
        self.clock = Clock()
        self.running: dict[int, Running] = {}
        self.live = self.console.is_terminal and not quiet
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.live,
            transient=True,
        )
        self.overall = self.bars.add_task("[bold]all stages", total=total, note="")

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def start(self, slot: int, stage: Stage) -> None:
        """A slot begins a stage."""
        task = self.bars.add_task(stage.label, total=1.0, note="")
        self.running[slot] = Running(stage, time.monotonic(), task=task)

    def progress(self, slot: int, done: float, total: float, note: str, waiting: list[Stage]) -> None:
        """A slot reports."""
        run = self.running[slot]
        run.share = done / total if total else 0.0
        left = (time.monotonic() - run.begun) * (1 / run.share - 1) if run.share > 0.02 else None
        assert run.task is not None  # noqa: S101 - start() made it
        self.bars.update(run.task, completed=run.share, note=f"{_left(left)}{note}")
        self._refresh(waiting)

    def again(self, slot: int, why: str, waiting: list[Stage]) -> None:
        """A slot lost its stage, which waits to begin again."""
        run = self.running.pop(slot)
        if run.task is not None:
            self.bars.remove_task(run.task)
        self._refresh(waiting)
        self.console.print(f"{escape(run.stage.label)} [yellow]lost[/]: {escape(why)}", highlight=False, soft_wrap=True)

    def finish(self, slot: int, waiting: list[Stage], *, computed: bool, failure: str = "") -> None:
        """A slot is done with its stage."""
        run = self.running.pop(slot)
        seconds = time.monotonic() - run.begun
        self.done += 1
        if computed:
            self.clock.took(run.stage, seconds)
        if run.task is not None:
            self.bars.remove_task(run.task)
        self._refresh(waiting)
        what = f"[red]failed[/]: {escape(failure)}" if failure else f"done in {duration(seconds)}"
        if failure or not self.live:
            left = (
                self.clock.left(list(self.running.values()), waiting, self.slots) if waiting or self.running else None
            )
            rest = f"; about {duration(left)} left" if left is not None else ""
            self.console.print(
                f"[{self.done}/{self.total}] {run.stage.label} {what}{rest}",
                markup=True,
                highlight=False,
                soft_wrap=True,
            )

    def _refresh(self, waiting: list[Stage]) -> None:
        left = self.clock.left(list(self.running.values()), waiting, self.slots)
        partly = sum(r.share for r in self.running.values())
        self.bars.update(self.overall, completed=self.done + partly, note=_left(left))


def duration(seconds: float) -> str:
    """Write a time span for people: 8 s, 3 min 20 s, 2 h 5 min."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60} s" if s % 60 else f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60} min"


def _left(seconds: float | None) -> str:
    return f"{duration(seconds)} left  " if seconds is not None else ""


def _kind(stage: Stage) -> str:
    """Stages of one kind take about as long: same name, data set and title, any seed."""
    return f"{stage.name} {stage.label.partition(' seed ')[0]}"
