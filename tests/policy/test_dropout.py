"""Our dropout has the right rate, keeps the mean, repeats under a seed, and passes the right gradient."""

import pytest
import torch
from torch.nn import functional as F

from rlrecbench.policy.dropout import dropout, relu_dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1000, 400), (7,), (401, 999)])
def test_rate_and_scale(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    y = dropout(torch.ones(shape), p, training=True)
    n = y.numel()
    dropped = float((y == 0).float().mean())
    assert abs(dropped - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-4
    kept = y[y != 0]
    if len(kept):
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=2e-4, atol=0)


def test_neighbours_are_independent() -> None:
    """Four elements share a 64-bit draw; all 16 patterns of them must be equally likely at p = 1/2."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(100_000, 4), 0.5, training=True) != 0).long()
    counts = torch.bincount((kept * torch.tensor([1, 2, 4, 8])).sum(1), minlength=16).float()
    assert float(((counts - 6250) ** 2 / 6250).sum()) < 45  # chi-square, 15 degrees of freedom, p about 1e-4


def test_seed_and_gradient() -> None:
    x = torch.randn(50, 3, requires_grad=True)
    torch.manual_seed(3)
    y = dropout(x, 0.3, training=True)
    torch.manual_seed(3)
    assert torch.equal(y, dropout(x, 0.3, training=True))
    assert not torch.equal(y, dropout(x, 0.3, training=True))
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, torch.where(y == 0, 0.0, 1 / 0.7), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_nothing_to_do(p: float, training: bool) -> None:
    x = torch.randn(5)
    assert dropout(x, p, training) is x


def test_everything_dropped_is_torchs() -> None:
    x = torch.randn(5)
    assert torch.equal(dropout(x, 1.0, training=True), F.dropout(x, 1.0))


@pytest.mark.parametrize("shape", [(7, 5), (3, 1 << 17)])  # within one part, and over several
def test_relu_dropout_is_dropout_of_relu(shape: tuple[int, ...]) -> None:
    """Rate and scale as above; the gradient is 1 / (1 - p) exactly where the result is not zero."""
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    doubled = x * 2
    y = relu_dropout(doubled, 0.25, training=True)
    kept = y != 0
    torch.testing.assert_close(y, torch.where(kept, x.detach() * 2 / 0.75, 0.0), rtol=1e-4, atol=0)
    positive = int((x > 0).sum())
    rate = 1 - int(kept.sum()) / positive
    assert abs(rate - 0.25) < 5 * (0.25 * 0.75 / positive) ** 0.5
    (gradient,) = torch.autograd.grad((y * 3).sum(), x)
    torch.testing.assert_close(gradient, torch.where(kept, 2 * 3 / 0.75, 0.0), rtol=1e-4, atol=0)


def test_relu_dropout_outside_of_training_is_relu() -> None:
    x = torch.randn(9)
    before = x.clone()
    assert torch.equal(relu_dropout(x, 0.5, training=False), before.relu())
    assert torch.equal(x, before)
