"""The quantiser's forward pass by brute force, and its gradients against finite differences."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from rlrecbench.identifiers.quantiser import Quantiser, StraightThrough, nearest

B, D, E, L, K, COMMITMENT = 7, 3, 2, 3, 4, 0.25


def toy(straight_through: StraightThrough, seed: int = 0) -> tuple[Quantiser, Tensor]:
    """A small network in double precision with random codebooks, and features [B, D]."""
    torch.manual_seed(seed)
    model = Quantiser(
        (D, 5, E), L, K, commitment=COMMITMENT, straight_through=straight_through, batch_norm=False
    ).double()
    with torch.no_grad():
        model.codebooks.normal_()
    return model, torch.randn(B, D, dtype=torch.float64)


def objective(model: Quantiser, x: Tensor) -> Tensor:
    out = model.quantise(model.encoder(x))
    return mse_loss(model.decoder(out.latent), x) + out.loss


def surrogate(model: Quantiser, x: Tensor, straight_through: StraightThrough) -> Callable[[], float]:
    """The function whose true derivative a straight-through gradient is.

    Codes and everything behind a stopped gradient are what they were at the start; the rest is computed anew from
    the parameters as they are.
    """
    z = model.encoder(x).detach()
    residuals, codes = [z], []
    for book in model.codebooks.detach():
        codes.append((residuals[-1][:, None] - book).square().sum(2).argmin(1))
        residuals.append(residuals[-1] - book[codes[-1]])
    stopped = [book[k] for book, k in zip(model.codebooks.detach(), codes, strict=True)]

    @torch.no_grad()
    def value() -> float:
        latent = model.encoder(x)
        residual, loss = latent, 0.0
        for level, k in enumerate(codes):
            code = model.codebooks[level][k]
            loss += float((residuals[level] - code).square().mean())
            loss += COMMITMENT * float((residual - stopped[level]).square().mean())
            if straight_through == "level":
                residual = residual - (residual + (stopped[level] - residuals[level]))  # = -(q - r), a constant
            else:
                residual = residual - code
        total = latent + (z - residuals[-1]) - z  # the codes' sum, moving with the encoder alone
        return float((model.decoder(total) - x).square().mean()) + loss / L

    return value


@pytest.mark.parametrize("straight_through", ["level", "sum"])
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_equal_finite_differences(straight_through: StraightThrough, seed: int) -> None:
    model, x = toy(straight_through, seed)
    objective(model, x).backward()
    value = surrogate(model, x, straight_through)
    assert value() == pytest.approx(objective(model, x).item(), rel=1e-12)
    step = 1e-6
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            flat, numeric = parameter.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
            for i in range(parameter.numel()):
                before = flat[i].item()
                flat[i] = before + step
                high = value()
                flat[i] = before - step
                low = value()
                flat[i] = before
                numeric[i] = (high - low) / (2 * step)
            assert torch.allclose(parameter.grad.view(-1), numeric, atol=1e-7)


def test_past_each_level_only_the_first_commitment_moves_the_encoder() -> None:
    """d/dz of L_rq is commitment * 2 (z - q_1) / (B E), over L levels; the later levels' terms are constants."""
    model, x = toy("level")
    z = model.encoder(x).detach().requires_grad_()
    model.quantise(z).loss.backward()
    first = model.codebooks[0].detach()[nearest(z.detach(), model.codebooks[0].detach())]
    expected = COMMITMENT * 2 * (z.detach() - first) / (B * E) / L
    assert z.grad is not None
    assert torch.allclose(z.grad, expected)


def test_codes_are_the_nearest_of_every_residual_and_their_sum_is_the_latent() -> None:
    model, x = toy("level")
    z = model.encoder(x).detach()
    out = model.quantise(z)
    residual = z.clone()
    for level in range(L):
        for row in range(B):
            distances = [float((residual[row] - code).square().sum()) for code in model.codebooks[level].detach()]
            assert out.codes[row, level] == min(range(K), key=distances.__getitem__)
        residual = residual - model.codebooks[level].detach()[out.codes[:, level]]
    assert torch.allclose(out.latent, z - residual)


def test_uniform_mapping_is_used_at_the_last_level_alone() -> None:
    """All residuals lie at one code of each level; the mapping spreads the last level's codes and no others."""
    model, _ = toy("level")
    with torch.no_grad():
        model.codebooks[:, 0] = 0
        model.codebooks[:, 1:] += 10
    z = torch.linspace(-1e-3, 1e-3, 8 * E, dtype=torch.float64).view(8, E)
    plain, uniform = model.quantise(z).codes, model.quantise(z, epsilon=0.5).codes
    assert (plain == 0).all()
    assert (uniform[:, :-1] == 0).all()
    assert len(uniform[:, -1].unique()) > 1
