"""Our forward passes against those of transformers, on the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlrecbench.catalogue import Catalogue
from rlrecbench.errors import StoreError
from rlrecbench.policy import t5
from rlrecbench.policy.score import score
from rlrecbench.policy.t5 import PAD, PRESETS, T5Policy, T5Shape, _bucket, flops

Make = Callable[..., T5Policy]
Codes = Callable[..., list[list[int]]]
Pad = Callable[[list[list[int]]], Tensor]

# The longest prompt has 120 tokens: far beyond the exact buckets.
ROWS: list[list[int]] = [[3, 1, 4], [], [2], list(range(40)), [5, 5]]
HISTORIES = torch.tensor([row + [-1] * (40 - len(row)) for row in ROWS])


def theirs(policy: T5Policy, history: Tensor, items: Tensor) -> Tensor:
    """Logits of transformers' forward with the prompt repeated for each candidate, [B, C, L, V]."""
    paths = torch.from_numpy(policy.catalogue.paths)
    prompt = torch.where(history[..., None] >= 0, paths[history.clamp(min=0)], PAD).flatten(1)
    mask = (prompt != PAD).long()
    mask[:, 0] = 1  # an empty history is one padding token
    B, C = items.shape
    logits: Tensor = policy.t5(
        input_ids=prompt.repeat_interleave(C, 0),
        attention_mask=mask.repeat_interleave(C, 0),
        labels=paths[items].flatten(0, 1),
    ).logits
    return logits.view(B, C, paths.shape[1], -1)


@pytest.mark.parametrize("candidates", [1, 3])
def test_logits_equal_transformers(policy: T5Policy, candidates: int) -> None:
    items = torch.arange(5 * candidates).view(5, candidates)
    states = policy.decode(policy.encode(HISTORIES), torch.from_numpy(policy.catalogue.paths)[items])
    assert states.shape == (5, candidates, 4, 16)
    assert_close(policy.head(states)[:, :, :3], theirs(policy, HISTORIES, items), atol=1e-5, rtol=1e-5)


def test_paper_size_logits_equal_transformers(make: Make, codes: Codes, pad: Pad) -> None:
    paths = codes(60, 4, 256)
    policy = make(paths, vocab=1025, shape=PRESETS["paper"])
    items = torch.arange(6).view(3, 2)
    history = pad([[9, 8], [7], list(range(20, 40))])
    states = policy.decode(policy.encode(history), torch.from_numpy(policy.catalogue.paths)[items])
    ours = policy.head(states)[:, :, :4]
    assert_close(ours, theirs(policy, history, items), atol=2e-4, rtol=1e-5)  # logits are of the order of 10


def test_gradients_equal_transformers(policy: T5Policy) -> None:
    items = torch.arange(15).view(5, 3)
    weights = torch.linspace(-1, 2, 15 * 3).view(5, 3, 3)
    ours = (score(policy, policy.encode(HISTORIES), items).vocab * weights).sum()
    mine = torch.autograd.grad(ours, list(policy.parameters()))
    tokens = torch.from_numpy(policy.catalogue.paths)[items].unsqueeze(-1)
    logp = theirs(policy, HISTORIES, items).log_softmax(-1).gather(-1, tokens).squeeze(-1)
    other = torch.autograd.grad((logp * weights).sum(), list(policy.parameters()))
    for (name, _), a, b in zip(policy.named_parameters(), mine, other, strict=True):
        assert float(b.abs().sum()) > 0, name
        assert_close(a, b, atol=1e-4, rtol=1e-4, msg=name)


def test_dropout_falls_in_the_same_places(make: Make, codes: Codes, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's generator, equal lengths and one candidate, the same draws meet the same activations."""
    drop = torch.nn.functional.dropout
    monkeypatch.setattr(t5, "dropout", drop)
    monkeypatch.setattr(t5, "relu_dropout", lambda x, p, training: drop(x.relu(), p, training))
    paths = codes(30, 3, 4)
    shape = T5Shape(layers=2, d_model=16, d_ff=32, heads=2, d_kv=8, dropout=0.3)
    policy = make(paths, vocab=13, shape=shape).train()
    policy.t5.set_attn_implementation("eager")
    history, items = torch.arange(8).view(4, 2), torch.arange(4).view(4, 1)
    torch.manual_seed(5)
    states = policy.decode(policy.encode(history), torch.from_numpy(policy.catalogue.paths)[items][..., :-1])
    torch.manual_seed(5)
    other = theirs(policy, history, items)
    assert_close(policy.head(states), other, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other, theirs(policy, history, items), atol=1e-2)


def test_steps_equal_teacher_forcing(policy: T5Policy, pad: Pad) -> None:
    """Beams that fork, are reordered and dropped hold the same states as their whole paths."""
    history = pad([[1, 2], []])
    encoded = policy.encode(history)
    root, cache = policy.start(encoded)
    _, cache = policy.step(cache, torch.tensor([[1, 2, 3], [4, 2, 1]]), torch.zeros(2, 3, dtype=torch.long))
    states, _ = policy.step(cache, torch.tensor([[5, 6], [7, 8]]), torch.tensor([[2, 0], [0, 0]]))
    whole = policy.decode(encoded, torch.tensor([[[3, 5], [1, 6]], [[4, 7], [4, 8]]]))
    assert_close(states, whole[:, :, 2], atol=1e-5, rtol=1e-5)
    assert_close(root[:, 0], whole[:, 0, 0], atol=1e-5, rtol=1e-5)


def test_a_prompt_does_not_depend_on_its_batch(policy: T5Policy) -> None:
    together = policy.encode(HISTORIES)
    items = torch.arange(6).view(1, 6)
    alone = score(policy, policy.encode(HISTORIES[2:3]), items).vocab
    picked = score(policy, together.select(torch.tensor([2])), items).vocab
    assert_close(picked, alone, atol=1e-5, rtol=1e-5)


def test_paths_of_unequal_length_make_packed_prompts(unequal: T5Policy, pad: Pad) -> None:
    """The history (item 4, item 0) is the prompt 3, 1, 4 without gaps."""
    encoded = unequal.encode(pad([[4, 0], [2, 1]]))
    prompt = torch.tensor([[3, 1, 4]])
    expected = unequal.t5(input_ids=prompt, decoder_input_ids=torch.tensor([[0, 2]])).logits
    got = unequal.head(unequal.decode(encoded, torch.tensor([[[2]], [[2]]])))[0, 0]
    assert_close(got, expected[0], atol=1e-5, rtol=1e-5)


def test_bfloat16_autocast_stays_close(make: Make, codes: Codes) -> None:
    paths = codes(60, 4, 16)
    policy = make(paths, vocab=65, shape=PRESETS["tiny"])
    items = torch.arange(20).view(5, 4)
    full = score(policy, policy.encode(HISTORIES), items).vocab
    with torch.autocast("cpu", torch.bfloat16):
        half = score(policy, policy.encode(HISTORIES), items).vocab
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert_close(half, full, atol=0.3, rtol=0)  # log-probabilities go down to about -12


def test_buckets_of_t5() -> None:
    """By hand: 16 exact buckets, then log(d / 16) / log(128 / 16) * 16 more; two-sided halves both."""
    near = torch.tensor([0, -1, -15, -16, -32, -64, -127, -500])
    assert _bucket(near).tolist() == [0, 1, 15, 16, 21, 26, 31, 31]
    sides = torch.tensor([-8, -7, 0, 1, 7, 8, 200])
    assert _bucket(sides, two_sided=True).tolist() == [8, 7, 0, 17, 23, 24, 31]


def test_flops_count_the_weights() -> None:
    """Two operations per weight a token meets: 1,836,352 in the encoder less 9 norms and 32 x 6 biases."""
    encoder = 1_836_352 - 9 * 128 - 32 * 6
    crossing = 4 * 2 * 128 * 384
    assert flops(PRESETS["paper"], 1025, prompt=1, decoded=0) == 2 * (encoder + crossing)
    assert flops(PRESETS["paper"], 1025, prompt=0, decoded=1) == 2 * (encoder + crossing + 128 * 1025)


def test_parameter_count_of_the_paper(make: Make) -> None:
    """Encoder 1,836,352 and decoder 2,623,296 (counted on LETTER's configuration) and 1,025 embeddings."""
    policy = make([[1, 257, 513, 769]], vocab=1025, shape=PRESETS["paper"])
    assert policy.parameters_trained == 1_836_352 + 2_623_296 + 1025 * 128


def test_saved_weights_come_back(policy: T5Policy, make: Make, tmp_path: Path) -> None:
    policy.save(tmp_path)
    other = make(policy.catalogue.paths.tolist(), vocab=13, seed=9)
    items = torch.arange(5).view(5, 1)
    before = score(other, other.encode(HISTORIES), items).vocab
    other.load(tmp_path)
    after = score(other, other.encode(HISTORIES), items).vocab
    expected = score(policy, policy.encode(HISTORIES), items).vocab
    assert torch.equal(after, expected)
    assert not torch.equal(before, expected)


def test_weights_of_another_model_are_refused(policy: T5Policy, make: Make, tmp_path: Path) -> None:
    policy.save(tmp_path)
    with pytest.raises(StoreError, match=r"model\.safetensors: weight .* does not fit"):
        make([[1, 2]], vocab=5).load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match="no readable weights"):
        policy.load(tmp_path)
    with pytest.raises(StoreError, match="no readable weights"):
        policy.load(tmp_path / "missing")


def test_token_zero_is_reserved() -> None:
    with pytest.raises(ValueError, match="token 0"):
        T5Policy(Catalogue([[0, 1]], 3), PRESETS["tiny"])
