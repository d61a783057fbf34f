"""BIGRec's grounding against one text at a time through the bare language model, and its injections by hand."""

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rlrecbench.baselines import bigrec_grounding
from rlrecbench.baselines.bigrec_grounding import bent, embedded
from torch import Tensor
from torch.testing import assert_close

from rlrecbench import registry
from rlrecbench.catalogue import Catalogue
from rlrecbench.collab import Collab
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.errors import BenchError, ConfigError
from rlrecbench.method import FineTune, Prompts, Ranker, RankJob, methods
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.free import beam_free
from rlrecbench.policy.language import TinyShape, tiny

registry.load()
Floats = NDArray[np.float64]
END, BREAK, PAD, V = 0, 1, 12, 13
# Titles end with a line break and the terminator; items 1 and 4 share one, and item 0's begins item 3's.
TITLES = [[3, 4], [5], [6, 7, 8], [3, 4, 9], [5], [10, 2], [11, 3, 5, 6], [8]]
PATHS = [[*title, BREAK, END] for title in TITLES]
POPULARITY = torch.tensor([5, 1, 0, 2, 9, 3, 3, 1])  # of each item
HISTORY = torch.tensor([[0, 2], [4, -1], [-1, -1], [6, 1], [7, 3]])


def _prompts(history: NDArray[np.int64]) -> list[list[int]]:
    return [[2, *(t for i in row if i >= 0 for t in TITLES[i])] for row in history.tolist()]


def _policy(seed: int) -> DecoderPolicy:
    """A Qwen2 with random weights and an output layer of its own; a tied one repeats tokens."""
    torch.manual_seed(seed)
    model = tiny(TinyShape(layers=2, d_model=32, heads=2, kv_heads=1, d_ff=48), V, END, PAD, 64)
    with torch.no_grad():
        for weight in model.get_decoder().parameters():
            weight.mul_(5 if weight.ndim > 1 else 1)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(V, 32) / 2)
    return DecoderPolicy(Catalogue(PATHS, V, terminator=END), model, _prompts).eval()


TRAINED, BASE = _policy(6), _policy(2)
LOGITS = torch.randn(len(HISTORY), len(TITLES), generator=torch.Generator().manual_seed(3))
COLLAB = Collab(torch.eye(len(TITLES)), {"test": LOGITS})


def _method(**given: object) -> Ranker:
    return build(methods["bigrec-grounding"], given, "test")


def _job(**given: Any) -> RankJob:
    rows = torch.arange(len(HISTORY))
    job = RankJob(Prompts("test", rows, HISTORY), 8, 20, 0, TRAINED, COLLAB, POPULARITY, base=BASE)
    return replace(job, **given)


@torch.no_grad()
def _state(tokens: list[int]) -> Floats:
    """The bare model's last state of one text, without padding and mask."""
    out = BASE.model.get_decoder()(input_ids=torch.tensor([tokens]), use_cache=False)
    state: Floats = out.last_hidden_state[0, -1].double().numpy()
    return state


def _text(path: list[int]) -> list[int]:
    tokens = [t for t in path if t >= 0]
    return tokens[:-1] if tokens[-1] == END and len(tokens) > 1 else tokens


def _distances(beams: int = 4, penalty: float = 0.0) -> Floats:
    """Distance of each prompt's free text to each item's title, [B, N]."""
    texts = beam_free(TRAINED, TRAINED.encode(HISTORY), beams, length_penalty=penalty)
    titles = [_state(_text(path)) for path in PATHS]
    return np.array([[np.linalg.norm(_state(_text(text)) - title) for title in titles] for text in texts.tolist()])


def _ordered(found: Tensor, value: Floats) -> None:
    """Items come by rising value, those of one title in any order."""
    at = np.take_along_axis(value, found.numpy(), 1)
    np.testing.assert_allclose(at, np.sort(value, 1), rtol=1e-4, atol=1e-5)
    assert np.diff(np.unique(value[0])).min() > 1e-3  # no near ties that would hide an error
    assert found.sort(1).values.tolist() == [list(range(8))] * len(found)


def test_titles_come_by_their_distance_to_the_text() -> None:
    expected = _distances()
    found = _method().rank(_job())
    _ordered(found.items, expected)
    assert_close(found.scores.double(), -torch.from_numpy(np.sort(expected, 1)), atol=1e-4, rtol=1e-4)


def test_texts_differ_between_prompts_and_hold_what_is_no_title() -> None:
    """Otherwise the tests above could not tell a constant from a text, nor a free search from one over titles."""
    texts = beam_free(TRAINED, TRAINED.encode(HISTORY), 4).tolist()
    assert len({tuple(t) for t in texts}) > 1
    assert any([t for t in text if t >= 0] not in PATHS for text in texts)


@pytest.mark.parametrize("given", [{"beams": 1}, {"beams": 12}])
def test_the_best_text_of_so_many_beams_is_taken(given: dict[str, int]) -> None:
    _ordered(_method(**given).rank(_job()).items, _distances(**given))


def test_the_suites_length_penalty_chooses_the_text() -> None:
    _ordered(_method().rank(_job(length_penalty=1.0)).items, _distances(penalty=1.0))
    assert not np.allclose(_distances(), _distances(penalty=1.0))


def _scaled(x: Floats) -> Floats:
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    return (x - low) / (high - low)  # type: ignore[no-any-return]  # numpy's arithmetic


@pytest.mark.parametrize("gamma", [0.0, 0.7, 20.0])
@pytest.mark.parametrize("injection", ["popularity", "collab"])
def test_statistics_bend_the_distances(injection: str, gamma: float) -> None:
    """Items 1 and 4 share a title: their popularities add up, the higher of their scores counts."""
    if injection == "popularity":
        statistics = POPULARITY.double().numpy()[None].repeat(len(HISTORY), 0)
        together = statistics[:, 1] + statistics[:, 4]
    else:
        statistics = LOGITS.double().numpy().copy()
        together = np.maximum(statistics[:, 1], statistics[:, 4])
    statistics[:, 1] = statistics[:, 4] = together
    expected = _scaled(_distances()) * (1 + _scaled(statistics)) ** -gamma
    found = _method(injection=injection, gamma=gamma).rank(_job())
    at = np.take_along_axis(expected, found.items.numpy(), 1)
    np.testing.assert_allclose(at, np.sort(expected, 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(-found.scores.numpy(), at, rtol=1e-3, atol=1e-6)


def test_popularity_is_what_the_data_set_counts() -> None:
    data = Probe(FineTune()).data
    assert _method().fit(data).tolist() == data.popularity.tolist()


def test_a_bend_by_hand() -> None:
    """D = 1 3 2 scales to 0 1 .5, c = 10 0 5 to 1 0 .5; with gamma 2: 0, 1, .5 / 2.25. Equal values scale to 0."""
    d, c = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]), torch.tensor([[10.0, 0.0, 5.0], [4.0, 4.0, 4.0]])
    expected = torch.tensor([[0.0, 1.0, 0.5 / 2.25], [0.0, 1.0, 0.5]], dtype=torch.float64)
    assert_close(bent(d, c, 2.0), expected)
    assert_close(bent(d, c[:1], 2.0), expected[:1].expand(2, -1))
    assert_close(bent(torch.ones(1, 3), c[:1], 2.0), torch.zeros(1, 3, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 2, 256])
def test_texts_are_embedded_without_their_terminator_in_any_company(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some end with the terminator, one is cut, one is nothing but the terminator."""
    monkeypatch.setattr(bigrec_grounding, "_ROWS", rows)
    paths = torch.tensor([[5, 1, 0, -1], [6, 7, 8, 1], [0, -1, -1, -1], [3, 1, 0, -1]])
    with torch.no_grad():
        found = embedded(BASE, paths)
    expected = np.stack([_state(t) for t in ([5, 1], [6, 7, 8, 1], [0], [3, 1])])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4, rtol=1e-4)


def test_a_text_that_is_a_title_puts_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bigrec_grounding, "beam_free", lambda *_, **__: TRAINED.trie.paths[torch.tensor([6, 4, 0, 2, 3])]
    )
    found = _method().rank(_job())
    assert found.items[[0, 2, 3, 4], 0].tolist() == [6, 0, 2, 3]
    assert set(found.items[1, :2].tolist()) == {1, 4}  # side by side
    assert_close(found.scores[:, 0], torch.zeros(5), atol=1e-4, rtol=0)


def test_short_lists_and_lists_longer_than_the_catalogue() -> None:
    whole = _method().rank(_job())
    assert torch.equal(_method().rank(_job(k=3)).items, whole.items[:, :3])
    longer = _method().rank(_job(k=10))
    assert torch.equal(longer.items[:, :8], whole.items)
    assert longer.items[:, 8:].tolist() == [[-1, -1]] * 5


def test_a_list_does_not_depend_on_its_batch() -> None:
    whole = _method().rank(_job()).items
    for row in range(len(HISTORY)):
        at = torch.tensor([row])
        alone = _method().rank(_job(prompts=Prompts("test", at, HISTORY[row : row + 1])))
        assert torch.equal(alone.items, whole[row : row + 1])


def test_titles_are_embedded_once_for_each_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    base = _policy(5)
    embed, rows = base.embed, 0

    def counted(paths: Tensor) -> Tensor:
        nonlocal rows
        rows += len(paths)
        return embed(paths)

    monkeypatch.setattr(base, "embed", counted)
    one, two = (_method(**given).rank(_job(base=base)) for given in ({}, {"injection": "popularity", "gamma": 1.0}))
    assert rows == 7 + 2 * len(HISTORY)
    assert not torch.equal(one.items, two.items)
    assert not torch.equal(_method().rank(_job()).items, one.items)  # another backbone, other embeddings


def test_embedded_titles_are_forgotten_with_their_backbone() -> None:
    base = _policy(6)
    _method().rank(_job(base=base))
    kept = len(bigrec_grounding._titles)
    del base
    gc.collect()
    assert len(bigrec_grounding._titles) == kept - 1


def test_a_backbone_without_texts_is_refused() -> None:
    probe = Probe(FineTune())
    policy = probe.policy().eval()
    prompts, _ = probe.prompts()
    with pytest.raises(BenchError, match="has no texts to embed"):
        _method().rank(RankJob(prompts, 10, 20, 0, policy, base=policy))


def test_what_is_read_follows_from_the_injection() -> None:
    needs = {kind: _method(injection=kind).needs for kind in ("none", "popularity", "collab")}
    assert needs == {"none": {"base"}, "popularity": {"base"}, "collab": {"base", "collab"}}


@pytest.mark.parametrize("given", [{"injection": "title"}, {"gamma": -1.0}, {"beams": 0}, {"gamma": 1.0}])
def test_settings_out_of_range_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        _method(**given)
