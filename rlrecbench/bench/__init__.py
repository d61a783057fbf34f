"""Speed on this machine, as ratios to a reference that runs in the same process.

Each benchmark alternates the two and reports the median, the smallest and the largest ratio, and whether
both gave the same result.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlrecbench.bench.decoder import search_decoder
from rlrecbench.bench.identifiers import spread
from rlrecbench.bench.packed import score_packed, step_s_dpo
from rlrecbench.bench.resampling import bootstrap, metrics
from rlrecbench.bench.search import search_t5
from rlrecbench.bench.step import steps
from rlrecbench.bench.timing import Result, compare, machine
from rlrecbench.errors import ConfigError

__all__ = ["Benchmark", "Result", "benchmarks", "compare", "machine", "run"]

Benchmark = Callable[[int], Result]


def run(only: str = "", data: Path | None = None, repeats: int = 5, plugins: Sequence[Path] = ()) -> dict[str, Any]:
    """Run the benchmarks whose name begins with ``only`` and return the content of ``bench --json``.

    Args:
        only: Beginning of the names; "" runs all.
        data: Folder with ``beauty/beauty.letter_index.json.gz`` (without it a random index of that shape) and with
            ``movies_and_tv`` (without it the titles of ml-100k).
        repeats: Alternating repeats.
        plugins: Files with further methods.

    Raises:
        ConfigError: No benchmark's name begins so.
    """
    known = benchmarks(data, plugins)
    chosen = [benchmark for name, benchmark in known.items() if name.startswith(only)]
    if not chosen:
        raise ConfigError(f"no benchmark's name begins with {only!r}; there are: {', '.join(known)}")
    return {"machine": machine(), "benchmarks": [asdict(benchmark(repeats)) for benchmark in chosen]}


def benchmarks(data: Path | None = None, plugins: Sequence[Path] = ()) -> dict[str, Benchmark]:
    """All benchmarks by name; each is a function of the number of repeats."""
    return {
        "search/t5": lambda repeats: search_t5(data, repeats),
        "identifiers/sinkhorn": spread,
        **steps(data, plugins),
        "step/s-dpo-titles": lambda repeats: step_s_dpo(data, repeats),
        "search/decoder": lambda repeats: search_decoder(data, repeats),
        "score/decoder-packed": lambda repeats: score_packed(data, repeats),
        "metrics": metrics,
        "bootstrap": bootstrap,
    }
