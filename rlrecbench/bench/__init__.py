"""Speed on this machine, as ratios to a reference that runs in the same process.

Each benchmark has a process of its own, so that none finds the memory that another has left. It alternates the two and
reports the median, the smallest and the largest ratio, and whether
both gave the same result.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rlrecbench.bench.decoder import search_decoder
from rlrecbench.bench.identifiers import spread
from rlrecbench.bench.packed import score_packed, step_s_dpo
from rlrecbench.bench.planning import plan
from rlrecbench.bench.resampling import bootstrap, metrics
from rlrecbench.bench.search import search_t5
from rlrecbench.bench.step import steps
from rlrecbench.bench.timing import Result, compare, machine
from rlrecbench.bench.training import trainings
from rlrecbench.errors import ConfigError
from rlrecbench.execute.progress import duration

__all__ = ["Benchmark", "Result", "benchmarks", "compare", "machine", "run"]

Benchmark = Callable[[int], Result]


def run(
    only: str = "",
    data: Path | None = None,
    repeats: int = 5,
    plugins: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run the benchmarks whose name begins with ``only`` and return the content of ``bench --json``.

    Args:
        only: Beginning of the names; "" runs all.
        data: Folder with ``beauty/beauty.letter_index.json.gz`` (without it a random index of that shape) and with
            ``movies_and_tv`` (without it the titles of ml-100k).
        repeats: Alternating repeats.
        plugins: Files with further methods.
        say: Is told of every benchmark that is done.

    Raises:
        ConfigError: No benchmark's name begins so.
    """
    known = benchmarks(data, plugins)
    chosen = [name for name in known if name.startswith(only)]
    if not chosen:
        raise ConfigError(f"no benchmark's name begins with {only!r}; there are: {', '.join(known)}")
    here = machine()
    peak = here.get("matmul_gflops", {}).get("float32")
    found, start = [], time.perf_counter()
    for i, name in enumerate(chosen, 1):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            result = _shared(alone.submit(_measured, name, data, repeats, plugins).result(), peak)
        found.append(asdict(result))
        spent = time.perf_counter() - start
        left = duration(spent / i * (len(chosen) - i))
        say(f"[{i}/{len(chosen)}] {name}: {result.ratio:.2f}; {duration(spent)} so far, about {left} left")
    return {"machine": here, "data": _data(data), "benchmarks": found}


def _data(folder: Path | None) -> list[str]:
    """What the benchmarks of backbones run on."""
    beauty, movies = (folder is not None and (folder / name).is_dir() for name in ("beauty", "movies_and_tv"))
    return [
        "Beauty's training pairs and its released LETTER index"
        if beauty
        else "random codes and pairs of Beauty's shape",
        "titles of Movies and TV" if movies else "titles of ml-100k",
    ]


def _measured(name: str, data: Path | None, repeats: int, plugins: Sequence[Path]) -> Result:
    return benchmarks(data, plugins)[name](repeats)


def _shared(result: Result, peak: float | None) -> Result:
    """Add the share of the machine's peak, in GFLOP/s."""
    return replace(result, peak_share=result.gflop / result.ours_s / peak) if result.gflop and peak else result


def benchmarks(data: Path | None = None, plugins: Sequence[Path] = ()) -> dict[str, Benchmark]:
    """All benchmarks by name; each is a function of the number of repeats."""
    return {
        "search/t5": lambda repeats: search_t5(data, repeats),
        **trainings(data),
        "identifiers/sinkhorn": spread,
        **steps(data, plugins),
        "step/s-dpo-titles": lambda repeats: step_s_dpo(data, repeats),
        "search/decoder": lambda repeats: search_decoder(data, repeats),
        "score/decoder-packed": lambda repeats: score_packed(data, repeats),
        "metrics": metrics,
        "bootstrap": bootstrap,
        "plan": plan,
    }
