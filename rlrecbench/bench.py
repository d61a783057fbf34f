"""Speed on this machine, as ratios to a reference that runs in the same process.

Each benchmark alternates the two and reports the median, the smallest and the largest ratio, and whether
both gave the same result.
"""

import gzip
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.errors import ConfigError
from rlrecbench.policy.search import beam_all
from rlrecbench.policy.t5 import PAD, PRESETS, T5Policy

Ints = NDArray[np.int64]

CODES = 256  # per level; LETTER
LEVELS = 4  # LETTER
ITEMS = 12_101  # Beauty
USERS, BEAMS, SHORTEST, LONGEST = 64, 20, 4, 20  # test users at a time; LETTER's beams; Beauty's histories
TOLERANCE = 1e-3  # nats between two float32 computations of a path's log-probability


@dataclass(frozen=True)
class Result:
    """One line of ``bench --json``.

    Attributes:
        name: Which benchmark.
        ours_s: Median seconds.
        reference: What it is compared with.
        reference_s: Median seconds.
        ratio: Median of reference / ours (ours / reference for ``step/``).
        ratio_min: Smallest of the repeats.
        ratio_max: Largest of the repeats.
        repeats: Number of alternating repeats.
        equal: Both gave the same result.
    """

    name: str
    ours_s: float
    reference: str
    reference_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    repeats: int
    equal: bool


Benchmark = Callable[[Path | None, int], Result]


def run(only: str = "", data: Path | None = None, repeats: int = 5) -> dict[str, Any]:
    """Run the benchmarks whose name begins with ``only`` and return the content of ``bench --json``.

    Raises:
        ConfigError: No benchmark's name begins so.
    """
    chosen = [benchmark for name, benchmark in BENCHMARKS.items() if name.startswith(only)]
    if not chosen:
        raise ConfigError(f"no benchmark's name begins with {only!r}; there are: {', '.join(BENCHMARKS)}")
    return {"machine": machine(), "benchmarks": [asdict(benchmark(data, repeats)) for benchmark in chosen]}


def machine() -> dict[str, Any]:
    """Number of cores, and measured speed of a matrix product in GFLOP/s."""
    speeds = {str(t).removeprefix("torch."): _gflops(t) for t in (torch.float32, torch.bfloat16)}
    return {"cores": len(os.sched_getaffinity(0)), "matmul_gflops": speeds}


def compare(
    name: str, reference: str, ours: Callable[[], Any], theirs: Callable[[], Any], equal: bool, repeats: int
) -> Result:
    """Time two functions in turn; both must have run once before."""
    mine, other = [], []
    for _ in range(repeats):
        mine.append(_seconds(ours))
        other.append(_seconds(theirs))
    ratios = [b / a for a, b in zip(mine, other, strict=True)]
    return Result(
        name, median(mine), reference, median(other), median(ratios), min(ratios), max(ratios), repeats, equal
    )


def search_t5(data: Path | None, repeats: int) -> Result:
    """Constrained beam search, against ``transformers.generate`` on the same weights.

    Args:
        data: Folder with ``beauty/beauty.letter_index.json.gz``; a random index of that shape without it.
        repeats: Alternating repeats.
    """
    rng = np.random.default_rng(0)
    catalogue = Catalogue(_index(data, rng), vocab=1 + LEVELS * CODES)
    torch.manual_seed(0)
    policy = T5Policy(catalogue, PRESETS["paper"]).eval()
    lengths = np.clip(rng.geometric(1 / 4, USERS) + SHORTEST - 1, SHORTEST, LONGEST)  # mean 7, as in Beauty
    drawn = rng.integers(catalogue.n_items, size=(USERS, LONGEST))
    history = torch.from_numpy(np.where(np.arange(LONGEST) < lengths[:, None], drawn, -1))

    def ours() -> tuple[Ints, Ints]:
        found = beam_all(policy, history, BEAMS)
        return found.leaves.numpy(), found.scores.numpy()

    generate = _generate(policy, history)
    (leaves, scores), (other, other_scores) = ours(), generate()
    same = np.array_equal(np.sort(leaves), np.sort(other)) and np.allclose(scores, other_scores, atol=TOLERANCE)
    return compare("search/t5", "transformers.generate with a prefix function", ours, generate, bool(same), repeats)


BENCHMARKS: dict[str, Benchmark] = {"search/t5": search_t5}


def _generate(policy: T5Policy, history: Tensor) -> Callable[[], tuple[Ints, Ints]]:
    """The same search as a user of transformers writes it: leaves and scores, [B, W]."""
    catalogue, trie = policy.catalogue, policy.catalogue.trie
    codes = torch.where(history[..., None] >= 0, torch.from_numpy(catalogue.paths)[history.clamp(min=0)], PAD)
    prompt = codes.flatten(1)
    legal: dict[tuple[int, ...], list[int]] = {}
    leaf: dict[tuple[int, ...], int] = {}
    for path, nodes in zip(catalogue.paths.tolist(), catalogue.nodes.tolist(), strict=True):
        leaf[tuple(path)] = nodes[-1]
        for depth, node in enumerate([0, *nodes[:-1]]):
            legal[tuple(path[:depth])] = trie.token[trie.first[node] : trie.first[node + 1]].tolist()

    def allowed(_: int, tokens: Tensor) -> list[int]:
        return legal[tuple(tokens.tolist()[1:])]

    model: Any = policy.t5

    def run() -> tuple[Ints, Ints]:
        out = model.generate(
            input_ids=prompt,
            attention_mask=(prompt != PAD).long(),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=catalogue.max_length,
            length_penalty=0.0,
            do_sample=False,
            prefix_allowed_tokens_fn=allowed,
            return_dict_in_generate=True,
            output_scores=True,
        )
        paths = [leaf[tuple(path)] for path in out.sequences[:, 1:].tolist()]
        return np.array(paths).reshape(-1, BEAMS), out.sequences_scores.view(-1, BEAMS).numpy()

    return run


def _index(data: Path | None, rng: np.random.Generator) -> Ints:
    """Token paths of Beauty's released LETTER index, or of a random index with as many items."""
    path = data / "beauty" / "beauty.letter_index.json.gz" if data else None
    if path is None or not path.is_file():
        codes = rng.integers(CODES, size=(ITEMS, LEVELS))
    else:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = json.load(file)
        codes = np.array([[int(re.sub(r"\D", "", code)) for code in rows[item]] for item in sorted(rows, key=int)])
    return 1 + CODES * np.arange(LEVELS) + codes


def _gflops(dtype: torch.dtype, size: int = 2048) -> float:
    a = torch.randn(size, size).to(dtype)
    torch.mm(a, a)
    return round(2 * size**3 / min(_seconds(lambda: torch.mm(a, a)) for _ in range(5)) / 1e9, 1)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
