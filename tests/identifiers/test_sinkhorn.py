"""Sinkhorn's scaling against its direct form, against logarithms in full, and against answers known by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor

from rlrecbench.identifiers import sinkhorn as module
from rlrecbench.identifiers.sinkhorn import assign, sinkhorn

Floats = NDArray[np.float64]


def centred(distances: Floats, epsilon: float) -> Floats:
    """-d' / epsilon, d' being the distances' offset from the middle of their range over half of it."""
    middle = (distances.max() + distances.min()) / 2
    return np.asarray(-(distances - middle) / (distances.max() - middle + 1e-5) / epsilon)


def direct(distances: Floats, epsilon: float, iterations: int) -> Floats:
    """Q itself in float64, times B: exact as long as exp neither overflows nor ends at 0."""
    B, K = distances.shape
    Q = np.exp(centred(distances, epsilon))
    Q = Q / Q.sum()
    for _ in range(iterations):
        Q = Q / (Q.sum(axis=1, keepdims=True) * B)
        Q = Q / (Q.sum(axis=0, keepdims=True) * K)
    return np.asarray(Q * B)


def logarithms(distances: Floats, epsilon: float, iterations: int) -> Floats:
    """log(QB) with a log-sum-exp of the whole matrix at every step: finite at any epsilon."""
    B, K = distances.shape
    log = centred(distances, epsilon)
    log = log - logsumexp(log)
    for _ in range(iterations):
        log = log - logsumexp(log, axis=1, keepdims=True) - math.log(B)
        log = log - logsumexp(log, axis=0, keepdims=True) - math.log(K)
    return np.asarray(log + math.log(B))


def spread(B: int, K: int, seed: int, width: int = 4) -> Tensor:
    """Squared distances of B vectors to K codes, all normal."""
    made = torch.Generator().manual_seed(seed)
    vectors, codes = (torch.randn(n, width, generator=made, dtype=torch.float64) for n in (B, K))
    return (vectors[:, None] - codes).square().sum(2)


def crowd(B: int, K: int) -> Tensor:
    """Squared distances of (0.5, 1.5, ...) / B to codes 2, 3, ..., K + 1 on a line: code 0 is nearest to all."""
    points = (torch.arange(B, dtype=torch.float64) + 0.5) / B
    return (points[:, None] - torch.arange(2, K + 2)).square()


def crossed(epsilon: float) -> tuple[Tensor, float]:
    """Distances [[0, 1], [4, 1]] and the share of vector 0 that code 0 keeps when the scaling has settled.

    The 2 x 2 matrix with unit sums is [[p, 1 - p], [1 - p, p]], and scaling leaves the cross ratio of Q as it was:
    p^2 / (1 - p)^2 = exp(-(0 + 1 - 1 - 4) / ((2 + 1e-5) epsilon)), as the range's half is 2. So p is the logistic
    function of 2 / (2.00001 epsilon).
    """
    return torch.tensor([[0.0, 1.0], [4.0, 1.0]]), 1 / (1 + math.exp(-2 / (2.00001 * epsilon)))


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_two_by_two_settles_on_the_logistic_function(epsilon: float) -> None:
    distances, share = crossed(epsilon)
    expected = torch.tensor([[share, 1 - share], [1 - share, share]], dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(distances, epsilon, iterations=200).exp(), expected, rtol=1e-12, atol=0)


def test_one_iteration_by_hand() -> None:
    """Distances 0, 2 and 2, 2 with epsilon 1 / 1.00001, so that Q is [[e, 1/e], [1/e, 1/e]] before scaling.

    Rows over their sums: a = e / (e + 1/e) and 1 - a; 1/2 and 1/2. Columns over theirs, B / K = 1: a / (a + 1/2)
    and (1 - a) / (3/2 - a) for the first vector, what is left of 1 for the second.
    """
    a = math.e / (math.e + 1 / math.e)
    first, second = a / (a + 0.5), (1 - a) / (1.5 - a)
    expected = torch.tensor([[first, second], [1 - first, 1 - second]], dtype=torch.float64)
    result = sinkhorn(torch.tensor([[0.0, 2.0], [2.0, 2.0]]), 1 / 1.00001, iterations=1)
    torch.testing.assert_close(result.exp(), expected, rtol=1e-14, atol=0)


@given(
    B=st.integers(1, 40),
    K=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    epsilon=st.floats(0.0035, 10, allow_subnormal=False),
    iterations=st.integers(1, 60),
    offset=st.sampled_from([0.0, 1e3]),
)
@settings(max_examples=200, deadline=None)
def test_equals_the_direct_form_where_that_is_finite(
    B: int, K: int, seed: int, epsilon: float, iterations: int, offset: float
) -> None:
    """Above 1 / 300 an entry of Q is within exp(-300)..exp(300), and so are both forms within rounding."""
    distances = spread(B, K, seed) + offset
    expected = direct(distances.numpy(), epsilon, iterations)
    assert np.isfinite(expected).all()
    assert (expected > 0).all()
    log = sinkhorn(distances, epsilon, iterations)
    np.testing.assert_allclose(log.numpy(), np.log(expected), rtol=0, atol=1e-9)
    picked = np.take_along_axis(expected, assign(distances, epsilon, iterations).numpy()[:, None], 1)[:, 0]
    np.testing.assert_allclose(picked, expected.max(1), rtol=1e-9)


@pytest.mark.parametrize("epsilon", [3e-3, 1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("iterations", [1, 2, 50, 600])
@pytest.mark.parametrize("kind", ["spread", "crowd", "outlier", "few"])
def test_equals_logarithms_in_full_where_the_direct_form_breaks(kind: str, epsilon: float, iterations: int) -> None:
    """Entries reach exp(1e6); both ways differ by rounding, some 1e-16 of the largest logarithm at every step."""
    distances = {
        "spread": spread(60, 16, 1),
        "crowd": crowd(60, 16),
        "outlier": torch.cat([spread(59, 16, 2), torch.full((1, 16), 1e4, dtype=torch.float64)]),
        "few": spread(3, 64, 3),
    }[kind]
    if epsilon < 1e-3:
        with np.errstate(all="ignore"):
            assert not np.isfinite(np.log(direct(distances.numpy(), epsilon, iterations))).all()
    expected = logarithms(distances.numpy(), epsilon, iterations)
    log = sinkhorn(distances, epsilon, iterations).numpy()
    assert np.isfinite(log).all()
    np.testing.assert_allclose(log, expected, rtol=0, atol=1e-15 * (20 + iterations) / epsilon)
    codes = assign(distances, epsilon, iterations).numpy()
    short = expected.max(1) - np.take_along_axis(expected, codes[:, None], 1)[:, 0]
    assert short.max() <= 2e-12 / epsilon  # a tie, if not the same code


@pytest.mark.parametrize(("blocks", "gap"), [((2, 1, 1, 2), 215), ((2, 1, 1, 2), 305), ((4, 3, 1, 4), 305)])
@pytest.mark.parametrize("transposed", [False, True])
def test_an_entry_too_small_for_the_kernel_counts_again_in_time(
    blocks: tuple[int, int, int, int], gap: int, transposed: bool
) -> None:
    """Some vectors lie on some codes, the others on the others; all else is exp(gap) times smaller.

    In the first case vectors 0 and 1 share code 0, which holds twice its share, and vector 2 has codes 1 and 2, which
    hold half of theirs. So in every iteration the rows of 0 and 1 and the columns of 1 and 2 double, and the entry of
    both grows fourfold: at exp(-215) it counts after 155 iterations. Each factor is then 2^155 = 5e46, which is below
    the limit at which a kernel is renewed. In the second they would be 1e66; in the third one outgrows the other,
    rows 1.87 and columns 2.86 times: 1e49 and 1e83 when the entry counts.
    """
    a, c, other_a, other_c = blocks
    distances = torch.ones(a + other_a, c + other_c, dtype=torch.float64)
    distances[:a, :c] = distances[a:, c:] = 0
    if transposed:
        distances = distances.T
    for iterations in (100, 150, 160, 170, 184, 220, 300):
        expected = logarithms(distances.numpy(), 2 / gap, iterations)
        np.testing.assert_allclose(sinkhorn(distances, 2 / gap, iterations).numpy(), expected, rtol=0, atol=1e-10)


def test_a_kernel_is_renewed_only_where_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration of 50 in logarithms at LC-Rec's epsilon; some of 2,000 where potentials travel by 1e5."""
    calls = []
    exact = module._scale_logs

    def counted(log: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return exact(log, column)

    monkeypatch.setattr(module, "_scale_logs", counted)
    sinkhorn(spread(128, 32, 0), 0.003)
    assert len(calls) == 1
    calls.clear()
    sinkhorn(crowd(60, 16), 1e-5, iterations=2000)
    assert 10 < len(calls) < 100


@pytest.mark.parametrize(("epsilon", "left"), [(0.5, 1e-12), (0.003, 0.02), (1e-5, 30)])
def test_columns_are_exact_and_rows_settle(epsilon: float, left: float) -> None:
    """The last step scales columns, so each holds B / K = 8; the rows' distance to 1 never grows with an iteration.

    Either scaling maps non-negative matrices so that no L1 distance between their sums grows, so the law holds at
    every epsilon; how fast it falls depends on epsilon.
    """
    off = []
    for iterations in (1, 2, 3, 10, 100, 1000):
        matrix = sinkhorn(spread(48, 6, 4), epsilon, iterations).exp()
        torch.testing.assert_close(matrix.sum(0), torch.full((6,), 8.0, dtype=torch.float64), rtol=1e-9, atol=0)
        off.append(float((matrix.sum(1) - 1).abs().sum()))
    assert (np.diff(off) <= 1e-8).all()
    assert off[-1] < left
    assert off[-1] < off[0]


@pytest.mark.parametrize(("B", "K"), [(12, 3), (64, 8), (40, 5)])
def test_a_crowd_at_one_code_is_shared_out_in_order(B: int, K: int) -> None:
    """The nearest code is 0 for all. The square splits into one part per point, one per code, and -2 x c.

    The first two are potentials, so what remains is to match large points with large codes: the cheapest plan with
    equal shares gives the smallest B / K points to code 0, the next to code 1, and so on.
    """
    distances = crowd(B, K)
    assert distances.argmin(1).tolist() == [0] * B
    assert assign(distances, 0.003, iterations=2000).tolist() == [i * K // B for i in range(B)]


def test_a_collapsed_batch_uses_every_code() -> None:
    """1,024 vectors far from 256 codes are nearest to two of them; after 50 iterations nine codes in ten have some."""
    made = torch.Generator().manual_seed(5)
    vectors = 0.1 * torch.randn(1024, 16, generator=made) + 3
    codes = 0.1 * torch.randn(256, 16, generator=made)
    distances = torch.cdist(vectors, codes).square()
    assert len(distances.argmin(1).unique()) == 2
    counts = assign(distances, 0.003).bincount(minlength=256)
    assert (counts > 0).sum() >= 0.9 * 256
    assert counts.max() <= 4 * 1024 / 256


def test_codes_are_int64_and_logarithms_float64_without_a_gradient() -> None:
    distances = spread(6, 3, 0).float().requires_grad_()
    log, codes = sinkhorn(distances, 0.1), assign(distances, 0.1)
    assert (log.dtype, codes.dtype) == (torch.float64, torch.int64)
    assert (log.shape, codes.shape) == ((6, 3), (6,))
    assert not log.requires_grad


def test_the_input_stays_as_it_is() -> None:
    distances = spread(20, 5, 0)
    before = distances.clone()
    sinkhorn(distances, 1e-4)
    assign(distances, 0.003)
    assert torch.equal(distances, before)


def test_float32_distances_count_at_their_own_precision() -> None:
    """Centred and scaled in float64: the same as the same numbers given in float64."""
    distances = spread(30, 8, 6).float()
    assert torch.equal(sinkhorn(distances, 0.003), sinkhorn(distances.double(), 0.003))


def test_distances_of_another_scale_and_place_give_the_same_codes() -> None:
    distances = spread(64, 8, 7)
    assert torch.equal(assign(distances, 0.003), assign(1000 * distances + 50_000, 0.003))


def test_twice_is_the_same() -> None:
    distances = spread(100, 16, 8)
    assert torch.equal(sinkhorn(distances, 0.003), sinkhorn(distances, 0.003))
    assert torch.equal(assign(distances, 0.003), assign(distances, 0.003))


@given(seed=st.integers(0, 2**31), epsilon=st.sampled_from([0.1, 0.003, 1e-4]))
@settings(max_examples=40, deadline=None)
def test_order_of_vectors_and_of_codes_is_nothing_to_it(seed: int, epsilon: float) -> None:
    distances = spread(24, 7, seed)
    made = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(24, generator=made), torch.randperm(7, generator=made)
    moved = distances[rows][:, columns]
    expected = sinkhorn(distances, epsilon)[rows][:, columns]
    torch.testing.assert_close(sinkhorn(moved, epsilon), expected, rtol=0, atol=1e-13 / epsilon)
    picked = expected.gather(1, assign(moved, epsilon)[:, None])[:, 0]
    assert (expected.amax(1) - picked).max() <= 2e-12 / epsilon + 1e-12


@pytest.mark.parametrize("epsilon", [1.0, 0.003, 1e-6])
def test_equal_vectors_get_equal_codes(epsilon: float) -> None:
    """Copies stand at other places of the batch, where sums run in another order."""
    distances = spread(37, 8, 9)
    codes = assign(torch.cat([distances, distances.flip(0), distances[5:6].expand(30, 8)]), epsilon)
    assert torch.equal(codes[:37], codes[37:74].flip(0))
    assert len(codes[74:].unique()) == 1
    assert codes[74] == codes[5]


def test_a_batch_of_one_vector_takes_one_code() -> None:
    assert assign(torch.ones(9, 5) * torch.arange(5), 0.003).unique().numel() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (3, 50), (50, 3)])
@pytest.mark.parametrize("value", [0.0, 2.5, 1e12, -3.0])
@pytest.mark.parametrize("epsilon", [1.0, 0.003, 1e-6])
def test_equal_distances_leave_equal_shares(shape: tuple[int, int], value: float, epsilon: float) -> None:
    """Every entry is 1 / K, and every vector takes the first code."""
    distances = torch.full(shape, value)
    torch.testing.assert_close(
        sinkhorn(distances, epsilon), torch.full(shape, -math.log(shape[1]), dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert assign(distances, epsilon).tolist() == [0] * shape[0]


@pytest.mark.parametrize("epsilon", [1.0, 0.003, 1e-6])
def test_one_vector_leaves_each_code_its_share_and_takes_the_nearest(epsilon: float) -> None:
    """With B = 1 the columns alone decide: each holds 1 / K whatever the distance, so that every entry is equal."""
    distances = spread(1, 50, 12)
    torch.testing.assert_close(
        sinkhorn(distances, epsilon).exp(), torch.full((1, 50), 0.02, dtype=torch.float64), rtol=1e-8, atol=0
    )
    assert assign(distances, epsilon) == distances.argmin()


def test_two_vectors_take_the_nearest_of_the_codes_they_have_to_themselves() -> None:
    """Codes 0, 1 and 4 are nearer to vector 0 and 2, 3 and 5 to vector 1, all by far more than epsilon."""
    distances = torch.tensor([[0.9, 0.5, 1.5, 1.0, 0.7, 2.0], [1.9, 1.5, 0.8, 0.3, 1.7, 0.6]])
    entries = sinkhorn(distances, 0.003).exp()
    torch.testing.assert_close(entries.amax(0), torch.full((6,), 2 / 6, dtype=torch.float64), rtol=1e-9, atol=0)
    assert assign(distances, 0.003).tolist() == [1, 3]


def test_equal_codes_go_to_the_first() -> None:
    """Codes 0, 33 and 66 are one vector; their columns tie but for the order in which a product sums."""
    distances = spread(333, 67, 1)
    distances[:, [33, 66]] = distances[:, :1]
    codes = assign(distances, 0.003)
    assert (codes == 0).any()
    assert not ((codes == 33) | (codes == 66)).any()


def test_more_codes_than_vectors_part_two_that_collide() -> None:
    """Two vectors nearest to one code: each column's share is 2 / 3, and each vector prefers its own side."""
    distances = torch.tensor([[0.0, 1.0, 1.2], [0.0, 1.2, 1.0]])
    assert distances.argmin(1).tolist() == [0, 0]
    assert assign(distances, 0.003).tolist() == [1, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_distances_that_are_not_finite_are_refused(bad: float) -> None:
    distances = spread(4, 3, 0)
    distances[2, 1] = bad
    with pytest.raises(ValueError, match="distances must be finite; a vector or a code is NaN"):
        assign(distances, 0.003)


@pytest.mark.parametrize("epsilon", [0.0, -0.1, math.nan, math.inf])
def test_epsilon_must_be_above_zero(epsilon: float) -> None:
    with pytest.raises(ValueError, match="it must be above 0 and finite"):
        sinkhorn(spread(4, 3, 0), epsilon)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2)])
def test_only_a_matrix_with_entries_will_do(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[B, K\] with B, K > 0"):
        assign(torch.zeros(shape), 0.003)


def test_no_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="0 iterations of Sinkhorn's scaling; at least 1 is needed"):
        sinkhorn(spread(4, 3, 0), 0.003, iterations=0)


@pytest.mark.gpu
def test_the_gpu_agrees() -> None:
    distances = spread(1024, 256, 11, width=32)
    for epsilon in (0.003, 1e-4):
        log = sinkhorn(distances.cuda(), epsilon).cpu()
        torch.testing.assert_close(log, sinkhorn(distances, epsilon), rtol=0, atol=1e-13 / epsilon)
    assert torch.equal(assign(distances.cuda(), 0.003).cpu(), assign(distances, 0.003))
