"""Free beam search against every path there is, and against a beam search written out with lists."""

import itertools

import pytest
import torch
from torch import Tensor

from rlrecbench.catalogue import Catalogue
from rlrecbench.policy import free
from rlrecbench.policy.free import beam_free
from rlrecbench.policy.t5 import T5Policy, T5Shape

Path = tuple[int, ...]
HISTORY = torch.tensor([[2, 1], [0, -1], [-1, -1]])
SHAPE = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.0)
CODES = [[1, 2, 1, 3], [1, 3, 1, 2], [2, 1, 3, 3]]  # no terminator: every path has four tokens
TITLES = [[1, 3], [1, 2, 3], [2, 1, 1, 3], [2, 3]]  # token 3 ends a path
CASES = pytest.mark.parametrize(("paths", "end"), [(CODES, None), (TITLES, 3)])


class _Sharp(T5Policy):
    """A T5 with an output layer of its own: a tied one repeats tokens."""

    def head(self, states: Tensor) -> Tensor:
        weight = torch.randn(self.width, 4, generator=torch.Generator().manual_seed(int(self.width)))
        return states @ weight * 1.5


def _policy(paths: list[list[int]], end: int | None, seed: int = 1) -> T5Policy:
    """Four tokens, one of which is the padding, and random weights."""
    torch.manual_seed(seed)
    return _Sharp(Catalogue(paths, 4, terminator=end), SHAPE).eval()


Following = dict[Path, list[float]]


@torch.no_grad()
def _following(policy: T5Policy, row: int) -> Following:
    """Log-probability of each token behind every path of up to three tokens, by teacher forcing."""
    encoded = policy.encode(HISTORY).select(torch.tensor([row]))
    paths = torch.cartesian_prod(*[torch.arange(4)] * 3)
    logp = policy.head(policy.decode(encoded, paths[None])[0]).log_softmax(-1)  # [64, 4, V]
    return {tuple(path[:n]): logp[i, n].tolist() for i, path in enumerate(paths.tolist()) for n in range(4)}


def _every(following: Following, end: int | None) -> dict[Path, float]:
    """Summed log-probability of every finished path."""
    known: dict[Path, float] = {}
    open_: dict[Path, float] = {(): 0.0}
    while open_:
        prefix, total = open_.popitem()
        for token, logp in enumerate(following[prefix]):
            path = (*prefix, token)
            (known if len(path) == 4 or token == end else open_)[path] = total + logp
    return known


def _best(every: dict[Path, float], penalty: float) -> Path:
    return max(every, key=lambda path: every[path] / len(path) ** penalty)


def _tokens(path: Tensor) -> Path:
    return tuple(t for t in path.tolist() if t >= 0)


@CASES
@pytest.mark.parametrize("penalty", [0.0, 0.5, 1.0, 2.0])
def test_a_wide_search_finds_the_best_of_all_paths(paths: list[list[int]], end: int | None, penalty: float) -> None:
    lengths = set()
    for seed in range(4):
        policy = _policy(paths, end, seed)
        found = beam_free(policy, policy.encode(HISTORY), 256, length_penalty=penalty)
        assert found.shape == (3, 4)
        for row in range(3):
            best = _best(_every(_following(policy, row), end), penalty)
            assert _tokens(found[row]) == best
            assert found[row].tolist() == [*best, *[-1] * (4 - len(best))]
            lengths.add(len(best))
    assert len(lengths) > 1 or end is None


def _spelled_out(following: Following, width: int, end: int | None, penalty: float) -> Path:
    beams: list[tuple[float, Path]] = [(0.0, ())]
    finished = []
    for _ in range(4):
        grown = [(total + logp, (*path, v)) for total, path in beams for v, logp in enumerate(following[path])]
        finished += [b for b in grown if b[1][-1] == end]
        beams = sorted((b for b in grown if b[1][-1] != end), reverse=True)[:width]
    return max((total / len(path) ** penalty, path) for total, path in finished + beams)[1]


@CASES
@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_searches_keep_the_best_beginnings(
    paths: list[list[int]], end: int | None, width: int, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free, "CHUNK", 8)  # two rows of logits at a time
    differ = 0
    for seed in range(8):
        policy = _policy(paths, end, seed)
        found = beam_free(policy, policy.encode(HISTORY), width, length_penalty=penalty)
        for row in range(3):
            following = _following(policy, row)
            assert _tokens(found[row]) == _spelled_out(following, width, end, penalty)
            differ += _tokens(found[row]) != _best(_every(following, end), penalty)
    if width == 1:
        assert differ  # a greedy path is not always the best


def test_the_search_stops_when_nothing_can_become_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminator of probability near 1 ends every path at once, so one more step is never taken."""
    policy = _policy(TITLES, 3)
    logits = torch.tensor([0.0, 0.0, 0.0, 9.0])
    monkeypatch.setattr(policy, "head", lambda states: logits.expand(*states.shape[:-1], -1).clone())
    steps = itertools.count()
    step = policy.step
    monkeypatch.setattr(policy, "step", lambda *given: (next(steps), step(*given))[1])
    assert beam_free(policy, policy.encode(HISTORY), 2).tolist() == [[3, -1, -1, -1]] * 3
    assert next(steps) == 0
    beam_free(policy, policy.encode(HISTORY), 2, length_penalty=1.0)
    assert next(steps) == 1  # that question counted; -9.0004 / 4 is below -0.0004


def test_a_path_without_its_terminator_is_cut_at_the_longest() -> None:
    """Where the terminator is improbable the best path has as many tokens as the longest title."""
    policy = _policy(TITLES, 3)
    policy.head = lambda states: torch.tensor([1.0, 3.0, 0.0, -9.0]).expand(*states.shape[:-1], -1).clone()  # type: ignore[method-assign]
    assert beam_free(policy, policy.encode(HISTORY), 3).tolist() == [[1, 1, 1, 1]] * 3


@CASES
def test_a_prompt_is_answered_alone_as_among_others(paths: list[list[int]], end: int | None) -> None:
    policy = _policy(paths, end)
    encoded = policy.encode(HISTORY)
    together = beam_free(policy, encoded, 2)
    for row in range(3):
        assert torch.equal(beam_free(policy, encoded.select(torch.tensor([row])), 2), together[row : row + 1])


def test_it_leaves_no_gradient() -> None:
    policy = _policy(TITLES, 3)
    assert not beam_free(policy, policy.encode(HISTORY), 2).requires_grad
