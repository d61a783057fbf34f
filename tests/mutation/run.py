r"""Change the source in small ways, one at a time, and see which changes the tests do not notice.

    python -m tests.mutation.run rlrecbench/stats/*.py --tests tests/stats --out /tmp/mutation/stats
    python -m tests.mutation.run baselines/*.py --tests tests/baselines tests/contract --declared tests/test_docs.py \
        --out /tmp/mutation/baselines --sample 300

Nothing is written to the source: a mutant lives in one forked process. First every test runs by itself to learn which
lines it reaches; a mutant then meets the tests that reach its line, the module's own first, until one fails. What is
in ``--out`` is not done again: ``lines.json`` (renewed for test files that have changed) and ``results.jsonl``.
``--again`` repeats the mutants that survived. A survivor is either killed by a better test or explained in
``equivalent.toml``.
"""

import argparse
import gc
import hashlib
import importlib.machinery
import json
import os
import random
import resource
import signal
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
import torch
import transformers

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
LONGEST = 8.0  # seconds; tests above are left out
MEMORY = 4 << 30  # bytes that a mutant may take beyond what is there
Outcome = tuple[str, str, float]  # killed, survived or timeout; the test that failed; seconds of CPU time
Write = Callable[[Mutant, Outcome], None]


class Session:
    """A pytest plugin: collects once, then hands the tests to ``work``."""

    def __init__(self, work: Callable[["Session"], None]) -> None:
        self.work = work
        self.items: dict[str, pytest.Item] = {}
        self.failed = ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of pytest's own loop."""
        if not session.items:
            raise SystemExit("no test was collected")
        self.items = {item.nodeid: item for item in session.items}
        self.work(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a failure; a fixture's counts too."""
        if report.failed:
            self.failed = report.nodeid

    def run(self, names: Iterable[str]) -> str:
        """Run tests until one fails and return its name, or nothing."""
        chosen = [self.items[n] for n in names if n in self.items]
        for item, after in zip(chosen, [*chosen[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return self.failed
        return ""


def collect(tests: list[str], work: Callable[[Session], None]) -> str:
    """Import and collect the tests, then work on them; the word says that all went well."""
    code = pytest.main(
        ["-n0", "-s", "-p", "no:cacheprovider", "--tb=no", "--rootdir", str(ROOT), *tests], plugins=[Session(work)]
    )
    if code not in (0, 5):
        raise SystemExit(f"the tests could not be collected: pytest ended with {code}")
    return "collected"


def forked(work: Callable[[], str], seconds: float) -> tuple[str | None, float]:
    """Do something in a process of its own; its answer, None where it took longer, and its seconds of CPU time."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(100 * seconds))  # asleep, or on a machine with much else to do
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read().decode()
    _, status, used_up = os.wait4(child, 0)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
    return (None if late else answer or "died"), used_up.ru_utime + used_up.ru_stime


def trace(modules: list[Path], tests: list[Path], out: Path) -> dict[str, Any]:
    """Learn, for each test, its seconds and the lines it reaches below its functions' heads."""
    names = {str(m): str(m.relative_to(ROOT)) for m in modules}
    known: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}

    def watched(session: Session, name: str) -> str:
        lines: dict[str, set[int]] = defaultdict(set)

        def see(frame: FrameType, event: str, _: object) -> Any:
            file = names.get(frame.f_code.co_filename)
            if file is None:
                return None
            lines[file].add(frame.f_lineno)
            return see

        start = time.process_time()
        sys.settrace(see)
        failed = session.run([name])
        sys.settrace(None)
        found = {file: sorted(seen) for file, seen in lines.items()}
        return json.dumps({"seconds": time.process_time() - start, "failed": failed, "lines": found})

    def save() -> None:
        out.with_suffix(".new").write_text(json.dumps(known))
        out.with_suffix(".new").rename(out)

    def work(session: Session) -> None:
        digests = {file: _digest(Path(file)) for file in {str(i.path) for i in session.items.values()}}
        new = 0
        for name, item in session.items.items():
            digest = digests[str(item.path)]
            if known.get(name, {}).get("digest") != digest or not set(names.values()) <= set(known[name]["modules"]):
                answer, _ = forked(lambda name=name: watched(session, name), 120.0)  # type: ignore[misc]
                told = (
                    json.loads(answer) if answer and answer != "died" else {"seconds": 1e9, "failed": name, "lines": {}}
                )
                known[name] = told | {"digest": digest, "modules": sorted(names.values())}
                new += 1
                if new % 20 == 0:
                    save()
        for gone in set(known) - set(session.items):
            del known[gone]
            new += 1
        if new:
            save()

    forked(lambda: collect([str(t) for t in tests], work), 1e5)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def _digest(file: Path) -> str:
    beside = sorted(file.parent.glob("conftest.py"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in [file, *beside])).hexdigest()


def meets(mutant: Mutant, known: dict[str, Any], declared: list[str], most: float) -> list[str]:
    """Choose the tests for a mutant: those that reach its line, the module's own first, short ones first.

    What an import evaluates meets those in the files ``declared``, too, which reach no line.
    """
    file, stem = str(mutant.path.relative_to(ROOT)), mutant.path.stem
    reaching = []
    for name, told in known.items():
        lines = told["lines"].get(file, ())
        looks = not mutant.scope and name.split("::")[0] in declared
        if not told["failed"] and told["seconds"] <= LONGEST and (looks or _reaches(lines, mutant)):
            own = looks or stem in Path(name.split("::")[0]).stem
            reaching.append((not own, told["seconds"], name))
    chosen: list[str] = []
    spent = 0.0
    for _, seconds, name in sorted(reaching):
        spent += seconds
        if chosen and spent > most:
            break
        chosen.append(name)
    return chosen


def _reaches(lines: list[int], mutant: Mutant) -> bool:
    """What an import evaluates is reached by all that reach anything of the module."""
    first, last = mutant.lines
    return any(first <= line <= last for line in lines) if mutant.scope else bool(lines)


def functions_of(path: Path) -> list[FunctionType]:
    """Find the functions of a loaded module, whoever holds them."""
    return [f for f in gc.get_objects() if isinstance(f, FunctionType) and f.__code__.co_filename == str(path)]


def swap(mutant: Mutant, functions: list[FunctionType]) -> None:
    """Give the functions of a loaded module the changed code."""
    changed = {(c.co_qualname, c.co_firstlineno): c for c in _codes(mutant.compile())}
    for function in functions:
        code = changed.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
        if code is not None:
            function.__code__ = code


def _codes(code: CodeType) -> Iterable[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def load_changed(mutant: Mutant) -> None:
    """Have the module's next import give the changed one."""
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        return mutant.compile() if self.path == str(mutant.path) else original(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


def judge(todo: list[Mutant], met: dict[str, list[str]], known: dict[str, Any], write: Write) -> None:
    """Let every mutant of a module meet its tests."""
    inside, imported = ([m for m in todo if bool(m.scope) is inner] for inner in (True, False))
    recent: list[str] = []

    def outcome(answer: str | None, seconds: float) -> Outcome:
        if answer is None:
            return "timeout", "", seconds
        return ("survived", "", seconds) if answer == "none" else ("killed", answer, seconds)

    def limit(names: list[str]) -> float:
        return 3 * sum(float(known[n]["seconds"]) for n in names) + 5

    def each(session: Session) -> None:
        functions = functions_of(inside[0].path)
        gc.disable()  # a collection in a child would copy all memory
        gc.freeze()
        for mutant in inside:
            names = met[mutant.name]
            names = [n for n in recent if n in names] + [n for n in names if n not in recent]

            def work(mutant: Mutant = mutant, names: list[str] = names) -> str:
                swap(mutant, functions)
                load_changed(mutant)  # where a test imports it only then
                return session.run(names) or "none"

            told = outcome(*forked(work, limit(names))) if names else ("survived", "not reached", 0.0)
            write(mutant, told)
            if told[0] == "killed":
                recent[:] = [told[1], *(n for n in recent if n != told[1])][:4]

    files = sorted({n.split("::")[0] for m in inside for n in met[m.name]})
    if inside:
        forked(lambda: collect([str(ROOT / f) for f in files], each), 1e5)
    for mutant in imported:
        names = met[mutant.name]
        if not names:
            write(mutant, ("survived", "not reached", 0.0))
            continue
        write(mutant, outcome(*forked(lambda: _fresh(mutant, names), limit(names) + 10)))  # noqa: B023


def _fresh(mutant: Mutant, names: list[str]) -> str:
    """Import everything anew with the change, then run the tests."""
    load_changed(mutant)
    found: list[str] = []
    files = list(dict.fromkeys(str(ROOT / n.split("::")[0]) for n in names))
    try:
        collect(files, lambda session: found.append(session.run(names) or "none"))
    except SystemExit:
        found.append("collection")
    return found[0]


def table(results: dict[str, Any], modules: list[Path], equal: dict[str, str]) -> str:
    """Count what came of the mutants of each module, in markdown."""
    rows = ["| module | mutants | killed | timeout | equivalent | survived |", "| --- | --: | --: | --: | --: | --: |"]
    total: Counter[str] = Counter()
    for module in modules:
        file = str(module.relative_to(ROOT))
        ends = Counter(
            "equivalent" if r["end"] == "survived" and name in equal else r["end"]
            for name, r in results.items()
            if name.startswith(f"{file}::")
        )
        total += ends
        rows.append(_row(file, ends))
    return "\n".join([*rows, _row("all", total)])


def _row(name: str, ends: Counter[str]) -> str:
    counts = [ends.total(), *(ends[e] for e in ("killed", "timeout", "equivalent", "survived"))]
    return f"| {name} | {' | '.join(map(str, counts))} |"


def main() -> None:
    """Mutate the modules named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("modules", nargs="+", type=Path, help="source files")
    parser.add_argument("--tests", nargs="+", type=Path, required=True, help="the tests that mutants meet")
    parser.add_argument("--declared", nargs="+", type=Path, default=[], help="tests of what classes declare")
    parser.add_argument("--out", type=Path, required=True, help="folder of results, kept between runs")
    parser.add_argument("--seconds", type=float, default=25.0, help="of tests that one mutant meets (25)")
    parser.add_argument("--sample", type=int, help="judge that many mutants of all modules together, drawn with seed 0")
    parser.add_argument("--again", action="store_true", help="judge survivors once more")
    parser.add_argument("--table", action="store_true", help="judge nothing, only show what is there")
    given = parser.parse_args()
    modules = [m.resolve() for m in given.modules]
    given.out.mkdir(parents=True, exist_ok=True)
    listed = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())["equal"]
    equal = {mutant: group["reason"] for group in listed for mutant in group["mutants"]}
    every = [m for module in modules for m in mutants(module, ROOT)]
    log = given.out / "results.jsonl"
    results = {r["mutant"]: r for r in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    if not given.table:
        torch.set_num_threads(1)
        hypothesis.settings.register_profile(
            "mutation",
            database=None,
            derandomize=True,
            deadline=None,
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        )
        hypothesis.settings.load_profile("mutation")
        _ = np, pa, scipy.stats, transformers  # slow to import: once, before the processes part
        declared = [str(t.resolve().relative_to(ROOT)) for t in given.declared]
        known = trace(modules, [t.resolve() for t in given.tests + given.declared], given.out / "lines.json")
        wanted = every if given.sample is None else random.Random(0).sample(every, min(given.sample, len(every)))
        open_ = {n for n, r in results.items() if given.again and r["end"] == "survived" and n not in equal}
        todo = [m for m in wanted if m.name not in results] + [m for m in every if m.name in open_]

        met = {m.name: meets(m, known, declared, given.seconds) for m in todo}

        def write(mutant: Mutant, told: Outcome) -> None:
            row = {
                "mutant": mutant.name,
                "line": mutant.line,
                "end": told[0],
                "by": told[1],
                "seconds": round(told[2], 2),
            }
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")

        for module in modules:
            judge([m for m in todo if m.path == module], met, known, write)
        results = {r["mutant"]: r for r in map(json.loads, log.read_text().splitlines())}
    names = {m.name for m in every}
    kept = {name: r for name, r in results.items() if name in names}
    for name, r in kept.items():
        if r["end"] == "survived" and name not in equal:
            print(f"{r['line']}: {name} {r['by']}")
    print(table(kept, modules, equal))
    for name in equal:
        if name.split("::")[0] in {str(m.relative_to(ROOT)) for m in modules} and name not in names:
            print(f"equivalent.toml: no such mutant: {name}")


if __name__ == "__main__":
    main()
