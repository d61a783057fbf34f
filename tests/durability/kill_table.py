"""Kill a suite with SIGKILL, driver and workers, at random moments, go on, and tell what that cost.

    python -m tests.durability.kill_table --kills 20 --folder /tmp/kills --within 60

A run is killed at a random moment, begun again, killed again, until it gets through; then its files are compared with
those of a run that nobody disturbed, and the next one begins in a new folder. Each line of the table is one kill.
``lost``: of all stages at work, the longest time since its last checkpoint, or since it began.
"""

import argparse
import fcntl
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .runs import Run


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        suite: Number of the run that it belongs to.
        moment: Seconds after the start of the process.
        hit: What was at work; empty while processes were starting or a report was written.
        lost: Seconds of work that had to be done again.
        equal: Whether the run ended with the same bytes at last.
    """

    suite: int
    moment: float
    hit: tuple[str, ...]
    lost: float
    equal: bool = False

    def row(self) -> str:
        """A line of the table."""
        what = ", ".join(self.hit) or "no stage"
        equal = "yes" if self.equal else "NO"
        return f"| {self.suite} | {self.moment:5.1f} | {what} | {self.lost:4.1f} | {equal} |"


def kills(run: Run, suite: int, count: int, within: float, rng: random.Random) -> Iterator[Kill]:
    """Kill a suite up to ``count`` times and see it through.

    Raises:
        RuntimeError: A run that was not killed failed.
    """
    for _ in range(count):
        moment = rng.uniform(0.0, within)
        start = time.monotonic()
        process = run.start()
        seen: dict[str, float] = {}
        while process.poll() is None and time.monotonic() - start < moment:
            watch(run, seen)
            time.sleep(0.05)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lost = max((time.monotonic() - since for since in seen.values()), default=0.0)
        yield Kill(suite, time.monotonic() - start, tuple(map(bare, seen)), lost)
    if run.finish() != 0:
        raise RuntimeError(f"the run in {run.folder} failed: {run.said()}")


def watch(run: Run, seen: dict[str, float]) -> None:
    """Note since when each stage at work would lose what it does: since its last checkpoint, or since it began.

    Args:
        run: What goes on.
        seen: Seconds of the monotonic clock by label; changed here.
    """
    plan = run.results / "plan.json"
    if not plan.exists():
        return
    stages = {s["label"]: s["path"] for c in json.loads(plan.read_text())["cells"] for s in c["stages"]}
    for label, path in stages.items():
        if held(run.store / f"{path}.lock"):
            dates = [p.stat().st_mtime for p in (run.store / f"{path}.work").glob("checkpoint-*/progress.json")]
            since = time.monotonic() - (time.time() - max(dates, default=0.0))
            seen[label] = max(since, seen.get(label, time.monotonic()))
        else:
            seen.pop(label, None)


def held(lock: Path) -> bool:
    """Tell whether a process holds a lock."""
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def bare(label: str) -> str:
    """A stage's label without what all have in common."""
    return label.replace("ml-100k/tiger/", "").replace(" ml-100k", "").replace(" seed 1", "")


def table(folder: Path, count: int, within: float, seed: int) -> Iterator[Kill]:
    """Kill runs until there were ``count`` kills, and yield them as soon as it is known how their run ended."""
    reference = Run(folder / "reference")
    if reference.finish() != 0:
        raise RuntimeError(f"the undisturbed run failed: {reference.said()}")
    expected = reference.contents()
    rng, done, suite = random.Random(seed), 0, 0
    while done < count:
        suite += 1
        run = Run(folder / str(suite))
        made = list(kills(run, suite, count - done, within, rng))
        done += len(made)
        equal = run.contents() == expected
        yield from (replace(k, equal=equal) for k in made)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--within", type=float, default=60.0, help="seconds after a start in which the kill comes")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| suite | killed after (s) | at work | lost (s) | bytes equal |\n|---|---|---|---|---|", flush=True)
    found = []
    for kill in table(given.folder, given.kills, given.within, given.seed):
        found.append(kill)
        print(kill.row(), flush=True)
    print(f"\n{len(found)} kills, {sum(k.equal for k in found)} with equal bytes in the end", flush=True)


if __name__ == "__main__":
    main()
