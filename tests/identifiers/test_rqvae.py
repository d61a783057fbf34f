"""Training of RQ-VAE and LETTER: planted structure, odd catalogues, early stop, revival, exact resumption."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rlrecbench.errors import BenchError
from rlrecbench.identifiers import LetterIds, Quantised, RQVAEIds, letter, rqvae
from rlrecbench.identifiers.quantiser import nearest
from rlrecbench.identifiers.rqvae import standardised, train
from rlrecbench.store import Report, silent

Floats = NDArray[np.float32]
SMALL = {"levels": 2, "codes": 4, "latent": 3, "hidden": (8,), "batch_size": 64, "epochs": 40, "evaluate": 10}


def settings(kind: type[Quantised] = RQVAEIds, **changes: object) -> Quantised:
    return kind(**{**SMALL, **changes})  # type: ignore[arg-type]


def heaps(seed: int = 0) -> Floats:
    """4 far heaps, each of the same 4 near heaps of 8 items, [128, 6]."""
    rng = np.random.default_rng(seed)
    far = 10 * rng.normal(size=(4, 1, 1, 6))
    near = 2 * rng.normal(size=(1, 4, 1, 6))
    return (far + near + 0.01 * rng.normal(size=(4, 4, 8, 6))).reshape(128, 6).astype(np.float32)


def test_training_lowers_both_losses_and_finds_the_planted_heaps() -> None:
    x = heaps()
    made = train(x, settings(epochs=300, lr=1e-2, patience=300))
    first, last = made.history[0], made.history[-1]
    assert last["error"] < 0.2 * first["error"]
    assert last["error"] < 0.05  # of a mean square of 1
    codes = made.codes.reshape(4, 4, 8, 2)
    assert (codes == codes[:, :, :1]).all()  # the items of a near heap share their codes
    found = len(np.unique(codes[:, :, 0].reshape(-1, 2), axis=0))
    assert 14 <= found <= 16
    assert (codes[:, :, 0, 0] == codes[:, :1, 0, 0]).all()  # the first code is the far heap
    assert last["collision_rate"] == 1 - found / 128


def test_log_agrees_with_the_codes_and_the_model() -> None:
    x = heaps()
    made = train(x, settings(revive=0))
    last = made.history[-1]
    assert [line["epoch"] for line in made.history] == [10, 20, 30, 40]
    assert last["used"] == [len(np.unique(column)) for column in made.codes.T]
    assert last["collision_rate"] == 1 - len(np.unique(made.codes, axis=0)) / 128
    features = torch.from_numpy(standardised(x))
    with torch.no_grad():
        out = made.model.quantise(made.model.encoder(features))
        error = float((made.model.decoder(out.latent) - features).square().mean())
    assert (out.codes.numpy() == made.codes).all()
    assert last["error"] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("kind", [RQVAEIds, LetterIds])
@pytest.mark.parametrize("items", [1, 2, 3, 5])
def test_fewer_items_than_codes_are_all_told_apart(kind: type[Quantised], items: int) -> None:
    x = np.random.default_rng(items).normal(size=(items, 6)).astype(np.float32)
    made = train(x, settings(kind, codes=16), torch.randn(items, 3))
    assert made.codes.shape == (items, 2)
    assert len(np.unique(made.codes, axis=0)) == items


@pytest.mark.parametrize("kind", [RQVAEIds, LetterIds])
def test_a_catalogue_of_equal_items_is_one_identifier(kind: type[Quantised]) -> None:
    made = train(np.full((40, 6), 0.3, np.float32), settings(kind), torch.randn(40, 3))
    assert len(np.unique(made.codes, axis=0)) == 1
    assert made.history[-1]["error"] == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("kind", [RQVAEIds, LetterIds])
def test_equal_items_share_codes_among_different_ones(kind: type[Quantised]) -> None:
    x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    made = train(np.concatenate([x, x[:25]]), settings(kind, codes=8), torch.randn(85, 3))
    assert (made.codes[60:] == made.codes[:25]).all()


def test_batch_normalisation_and_the_other_straight_through_train_too() -> None:
    for changes in ({"batch_norm": True}, {"straight_through": "sum"}):
        made = train(heaps(), settings(epochs=60, lr=1e-2, **changes))
        assert made.history[-1]["error"] < 0.5 * made.history[0]["error"]
    for items in (1, 40):  # one vector has no spread to normalise by
        alike = train(np.ones((items, 6), np.float32), settings(batch_norm=True))
        assert len(np.unique(alike.codes, axis=0)) == 1


def test_training_stops_when_nothing_falls_any_more() -> None:
    made = train(np.zeros((30, 4), np.float32), settings(epochs=10_000, patience=30))
    assert made.history[-1]["epoch"] <= 200


def test_unused_codes_move_to_items_and_lose_their_momentum() -> None:
    x = heaps()
    run = rqvae._Training(x, settings(revive=10), None, None, torch.device("cpu"))
    run._begin(silent)
    with torch.no_grad():
        run.model.codebooks[0, 2] = 1e3
        run.model.codebooks[1, 1] = -1e3
    losses = run._train_epoch()
    run.epoch = 10
    run._look(losses)
    assert run.history[-1]["used"] == [3, 3]
    assert run.history[-1]["revived"] == 2
    residuals = run._quantised()[1]
    gap = (residuals[0] - run.model.codebooks[0, 2]).square().sum(1).min()
    assert float(gap.detach()) == pytest.approx(0, abs=1e-9)
    for level, code in ((0, 2), (1, 1)):
        assert run.model.codebooks[level, code].abs().max() < 100
        for name in ("exp_avg", "exp_avg_sq"):
            assert run.optimizer.state[run.model.codebooks][name][level, code].abs().max() == 0


def begun(x: Floats, chosen: Quantised, embeddings: torch.Tensor | None = None) -> rqvae._Training:
    """A training before its first epoch."""
    torch.manual_seed(0)
    run = rqvae._Training(x, chosen, embeddings, None, torch.device("cpu"))
    run._begin(silent)
    return run


@pytest.mark.parametrize(("alignment", "diversity"), [(0.0, 0.0), (0.5, 0.0), (0.5, 2.0)])
def test_the_loss_is_the_weighted_sum_with_the_last_level_mapped_uniformly(alignment: float, diversity: float) -> None:
    embeddings = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    run = begun(heaps(), settings(LetterIds, alignment=alignment, diversity=diversity, sinkhorn=0.05), embeddings)
    run._cluster(run.settings)  # type: ignore[arg-type]
    rows = torch.arange(64)
    found = run._losses(rows, torch.Generator().manual_seed(0))
    x = run.features[rows]
    out = run.model.quantise(run.model.encoder(x), 0.05)
    expected = (run.model.decoder(out.latent) - x).square().mean() + out.loss
    assert not torch.allclose(out.loss, run.model.quantise(run.model.encoder(x)).loss)
    if alignment:
        expected = expected + alignment * letter.alignment(out.latent, embeddings[rows])
    if diversity:
        assert run.clusters is not None
        partners = run.clusters.partners(out.codes, torch.Generator().manual_seed(0))
        expected = expected + diversity * letter.diversity(run.model.codebooks, out.codes, partners)
    assert torch.allclose(found["loss"], expected)
    assert found.keys() == {"loss", "reconstruction", "quantisation"} | ({"alignment"} if alignment else set()) | (
        {"diversity"} if diversity else set()
    )


def test_the_log_counts_items_that_are_equal_one_by_one() -> None:
    """100 copies of the first item: its codes weigh 101 of 228, its error likewise."""
    x = np.concatenate([heaps(), np.repeat(heaps()[:1], 100, axis=0)])
    made = train(x, settings(revive=0))
    last = made.history[-1]
    assert last["collision_rate"] == 1 - len(np.unique(made.codes, axis=0)) / 228
    counts = np.unique(made.codes[:, 0], return_counts=True)[1] / 228
    assert last["perplexity"][0] == pytest.approx(np.exp(-(counts * np.log(counts)).sum()))
    features = torch.from_numpy(standardised(x))
    with torch.no_grad():
        out = made.model.quantise(made.model.encoder(features))
        error = float((made.model.decoder(out.latent) - features).square().mean())
    assert last["error"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize(
    ("looks", "settled"),
    [
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 1.0), (0.5, 1.0)], True),
        ([(0.5, 1.0), (0.5, 1.0), (0.4, 1.0), (0.4, 1.0)], False),  # fewer collide
        ([(0.5, 1.0), (0.5, 1.0), (0.5, 0.99), (0.5, 1.0)], False),  # a lower error
        ([(0.5, 1.0), (0.5, 0.9995), (0.5, 0.9992), (0.5, 0.9991)], True),  # .1 % is no improvement
        ([(0.5, 1.0), (0.6, 2.0), (0.55, 1.5), (0.52, 1.1)], True),  # better than before, not than the best
        ([(0.5, 1.0), (0.5, 1.0)], False),
    ],
)
def test_training_settles_when_neither_figure_falls(looks: list[tuple[float, float]], settled: bool) -> None:
    """Looks every 10 epochs, patience 30: the best of the first look must stand for 30 epochs."""
    run = rqvae._Training(heaps(), settings(patience=30), None, None, torch.device("cpu"))
    run.history = [
        {"epoch": 10 * (i + 1), "collision_rate": rate, "error": error} for i, (rate, error) in enumerate(looks)
    ]
    run.epoch = 10 * len(looks)
    assert run._settled() is settled


@pytest.mark.parametrize(
    ("revive", "evaluate", "due"),
    [(10, 10, [10, 20, 30, 40]), (20, 10, [20, 40]), (15, 10, [20, 30]), (5, 10, [10, 20, 30, 40]), (0, 10, [])],
)
def test_codes_are_revived_at_the_first_look_after_so_many_epochs(revive: int, evaluate: int, due: list[int]) -> None:
    run = rqvae._Training(heaps(), settings(revive=revive, evaluate=evaluate), None, None, torch.device("cpu"))
    found = []
    for run.epoch in range(evaluate, 41, evaluate):
        if run._revival_due():
            found.append(run.epoch)
    assert found == due


def test_an_early_stop_leaves_the_codes_that_the_log_describes() -> None:
    x = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    made = train(x, settings(codes=64, patience=10, epochs=1000, revive=10))
    last = made.history[-1]
    assert last["epoch"] < 1000
    assert last["revived"] == 0
    assert last["used"] == [len(np.unique(column)) for column in made.codes.T]


def test_codes_that_collide_are_mapped_again_at_the_end() -> None:
    run = begun(heaps(), settings(LetterIds, codes=32, reassign=20), torch.randn(128, 3))
    with torch.no_grad():
        run.model.codebooks[-1, 1:] += 5  # so far that every item is nearest to code 0
    nearest = run._quantised()[0]
    assert len(np.unique(run._codes(), axis=0)) > 2 * len(np.unique(nearest, axis=0))


def test_codes_are_clustered_anew_every_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, of = [], letter.Clusters.of

    def count(codebooks: torch.Tensor, clusters: int, seed: int) -> letter.Clusters:
        seeds.append(seed)
        return of(codebooks, clusters, seed)

    monkeypatch.setattr(letter.Clusters, "of", count)
    train(heaps(), settings(LetterIds, epochs=10, cluster_every=4, clusters=2), torch.randn(128, 3))
    assert len(seeds) == len(set(seeds)) == 3  # epochs 0, 4 and 8


def test_normalised_layers_begin_with_codebooks_of_what_training_will_see() -> None:
    run = begun(heaps(), settings(batch_norm=True, codes=16))
    run.model.train()
    with torch.no_grad():
        latent = run.model.encoder(run.features)
        left = latent - run.model.codebooks[0][nearest(latent, run.model.codebooks[0])]
    assert float(left.square().mean() / latent.var(0).mean()) < 0.05


class KilledError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("kind", [RQVAEIds, LetterIds])
def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(
    kind: type[Quantised], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqvae, "_CHECKPOINT_S", 0.0)
    x, embeddings = heaps(), torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    chosen = settings(kind, **({"cluster_every": 15} if kind is LetterIds else {"codes": 8}))
    whole = train(x, chosen, embeddings)
    seen = []

    def until(stop: int) -> Report:
        def report(done: float, total: float, note: str) -> None:
            seen.append(done)
            if done == stop:
                raise KilledError

        return report

    for stop in (13, 27):
        with pytest.raises(KilledError):
            train(x, chosen, embeddings, folder=tmp_path, report=until(stop))
    assert seen.count(11) == 2  # epochs after the checkpoint of epoch 10 ran again
    assert seen.count(9) == 1
    rest = train(x, chosen, embeddings, folder=tmp_path)
    assert (rest.codes == whole.codes).all()
    assert rest.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(rest.model.state_dict()[name], value)


def test_seed_decides_everything() -> None:
    first, second, other = (train(heaps(), settings(seed=s)) for s in (1, 1, 2))
    assert (first.codes == second.codes).all()
    assert first.history == second.history
    assert (first.codes != other.codes).any()


def test_alignment_pulls_items_with_like_embeddings_together() -> None:
    """Features are noise; embeddings are four directions. With a strong alignment they decide the first code."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6)).astype(np.float32)
    taste = np.arange(120) % 3
    embeddings = 4 * torch.eye(3)[torch.from_numpy(taste)]

    def agreement(weight: float) -> float:
        changes: dict[str, object] = {"alignment": weight, "epochs": 200, "hidden": (64,), "lr": 1e-2, "codes": 6}
        changes |= {"sinkhorn": 0.0, "reassign": 0, "diversity": 0.0}
        first = train(x, settings(LetterIds, **changes), embeddings).codes[:, 0]
        same = first[:, None] == first
        return float((same & (taste[:, None] == taste)).sum() / same.sum())

    assert agreement(0.0) < 0.5
    assert agreement(10.0) > 0.8


@pytest.mark.parametrize("kind", [RQVAEIds, LetterIds])
def test_a_loss_that_is_no_number_is_described(kind: type[Quantised]) -> None:
    with pytest.raises(BenchError, match=r"item identifiers is (nan|inf) in epoch .* lower ids.lr"):
        train(heaps(), settings(kind, lr=1e30), torch.randn(128, 3))


def test_alignment_needs_embeddings_of_the_latents_width() -> None:
    with pytest.raises(ValueError, match=r"needs embeddings \[128, 3\]"):
        train(heaps(), settings(LetterIds), torch.randn(128, 4))


def test_features_are_centred_and_scaled_by_one_number() -> None:
    x = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    assert standardised(x) == pytest.approx(np.array([[-(2**0.5), 0], [2**0.5, 0]]), rel=1e-6)
    assert (standardised(np.full((3, 2), 7.0, np.float32)) == 0).all()


def test_layers_have_tigers_shape_at_768_and_are_scaled_to_other_widths() -> None:
    assert RQVAEIds().layers(768) == (768, 512, 256, 128, 32)
    assert RQVAEIds().layers(384) == (384, 256, 128, 64, 32)
    assert RQVAEIds(latent=8, hidden=(5,)).layers(64) == (64, 5, 8)
    assert RQVAEIds().layers(64) == (64, 43, 32, 32, 32)
