"""The decoder's packed passes against plain forward passes of transformers, one text at a time, on the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rlrecbench.catalogue import Catalogue
from rlrecbench.errors import BenchError, StoreError
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.language import LoRA, TinyShape, adapted, tiny
from rlrecbench.policy.score import score

V, EOS = 23, 0
SHAPE = TinyShape(layers=2, d_model=16, heads=2, kv_heads=1, d_ff=32)
# Items 1 and 5 share a leaf, [5] begins [5, 1] begins [5, 1, 2], and [6, 7] has a forced beginning.
PATHS = [[5, 1, 0], [5, 0], [6, 7, 8, 9, 0], [5, 1, 2, 0], [6, 7, 0], [5, 0]]
ITEMS = [[0, 1, 1, -1], [2, -1, 0, 3], [4, 4, 5, 1], [-1, -1, 2, 0]]  # absent, twice, of every length
PROMPTS = {
    "one beginning": [[3, 4, 9, 9, 1], [3, 4, 8], [3, 4, 9, 2, 2, 2, 7], [3, 4, 11, 12]],
    "no beginning": [[3, 4, 5], [4, 4], [12, 4, 5, 6, 7], [9]],
    "one begins another": [[3, 4], [3, 4, 5, 6], [3, 4, 5], [3, 4, 5, 6, 7, 8]],
    "all equal": [[3, 4, 5]] * 4,
    "one prompt": [[3, 4, 5, 6]],
    "one token": [[3]] * 2,
}


def build(
    kind: str = "one beginning", *, lora: bool = False, seed: int = 0, dropout: float = 0.0, paths: Any = PATHS
) -> DecoderPolicy:
    """A policy whose prompts are those of a kind, by the first item of a history, and whose weights are not small."""
    torch.manual_seed(seed)
    model = tiny(SHAPE, V, EOS, EOS, positions=64)
    if lora:
        model = adapted(model, LoRA(rank=3, alpha=6.0, dropout=dropout))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.3)  # an adapter's B is no longer zero
    prompts = PROMPTS[kind]
    catalogue = Catalogue(paths, V, terminator=EOS)
    return DecoderPolicy(catalogue, model, lambda history: [prompts[int(row[0])] for row in history]).eval()


def history(kind: str) -> Tensor:
    return torch.arange(len(PROMPTS[kind]))[:, None]


def alone(policy: DecoderPolicy, prompt: list[int], path: list[int]) -> Tensor:
    """Log-probability of each token of a path behind a prompt: one plain pass over one text, [L]."""
    text = torch.tensor([prompt + path])
    logits = policy.model(input_ids=text, use_cache=False).logits[0, len(prompt) - 1 : -1]
    logp: Tensor = logits.log_softmax(-1).gather(-1, text[0, len(prompt) :, None]).squeeze(-1)
    return logp


def one_by_one(policy: DecoderPolicy, kind: str, paths: list[list[list[int]]]) -> Tensor:
    """Of every prompt's paths, 0 behind their ends, [B, C, L]."""
    L = policy.catalogue.max_length
    rows = []
    for prompt, candidates in zip(PROMPTS[kind], paths, strict=False):
        parts = [alone(policy, prompt, path) if path else torch.zeros(0) for path in candidates]
        rows.append(torch.stack([torch.nn.functional.pad(part, (0, L - len(part))) for part in parts]))
    return torch.stack(rows)


def of_items(items: list[list[int]]) -> list[list[list[int]]]:
    return [[PATHS[i] if i >= 0 else [] for i in row] for row in items]


@pytest.fixture(params=["all weights", "adapter"])
def lora(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "adapter")


@pytest.fixture(params=["eval", "train", "checkpointing"])
def mode(request: pytest.FixtureRequest) -> Callable[[DecoderPolicy], None]:
    """Put a policy into a mode that must change nothing, there being no dropout."""

    def put(policy: DecoderPolicy) -> None:
        policy.train(request.param != "eval")
        if request.param == "checkpointing":
            policy._bare.gradient_checkpointing_enable({"use_reentrant": False})

    return put


# Teacher forcing.


@pytest.mark.parametrize("kind", list(PROMPTS))
def test_packed_scores_and_gradients_are_those_of_one_pass_each(
    kind: str, lora: bool, mode: Callable[[DecoderPolicy], None]
) -> None:
    policy = build(kind, lora=lora)
    mode(policy)
    items = ITEMS[: len(PROMPTS[kind])]
    weigh = torch.linspace(-1, 2, len(items) * 4 * 5).view(len(items), 4, 5)
    names, weights = zip(*((n, p) for n, p in policy.named_parameters() if p.requires_grad), strict=True)
    ours = score(policy, policy.encode(history(kind)), torch.tensor(items)).vocab
    mine = torch.autograd.grad((ours * weigh).sum(), weights)
    theirs = one_by_one(policy, kind, of_items(items))
    other = torch.autograd.grad((theirs * weigh).sum(), weights)
    assert float(theirs.detach().std()) > 1  # far from uniform, so that a wrong context shows
    assert_close(ours, theirs, atol=1e-4, rtol=0)
    for name, a, b in zip(names, mine, other, strict=True):
        size = float(b.abs().max())
        assert size > 0, name
        assert float((a - b).abs().max()) < 1e-4 * size, name


def test_a_checkpointed_pass_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last test compares is what it means: each layer once forward and once more for the gradient."""
    policy = build().train()
    policy._bare.gradient_checkpointing_enable({"use_reentrant": False})
    layer, calls = policy._bare.model.layers[0].self_attn, []
    layer.register_forward_hook(lambda *_: calls.append(1))
    loss = score(policy, policy.encode(history("one beginning")), torch.tensor(ITEMS)).vocab.sum()
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == 2


def test_free_paths_of_any_tokens_score_as_alone(lora: bool) -> None:
    """Illegal tokens, a terminator at once, and paths that never end."""
    policy, kind = build(lora=lora), "one beginning"
    drawn = [[[5, 1, 0], [9, 9, 9, 9, 9], [0]], [[5], [6, 7, 8], []], [[1, 2], [5, 0], [5, 0]], [[], [], [22]]]
    padded = torch.tensor([[path + [-1] * (5 - len(path)) for path in row] for row in drawn])
    items = torch.full(padded.shape[:2], -1)
    ours = score(policy, policy.encode(history(kind)), items, padded).vocab
    assert_close(ours, one_by_one(policy, kind, drawn), atol=1e-4, rtol=0)


def test_a_prompts_scores_do_not_depend_on_its_batch(lora: bool) -> None:
    policy, items = build(lora=lora), torch.tensor(ITEMS)
    encoded = policy.encode(history("one beginning"))
    together = score(policy, encoded, items).vocab
    rows = torch.tensor([3, 1])
    picked = encoded.select(rows)
    assert picked.batch == 2
    assert_close(score(policy, picked, items[rows]).vocab, together[rows], atol=1e-5, rtol=0)
    for b in range(4):
        own = score(policy, policy.encode(torch.tensor([[b]])), items[b : b + 1]).vocab
        assert_close(own, together[b : b + 1], atol=1e-5, rtol=0)


def test_only_what_all_prompts_begin_with_is_shared_and_never_a_whole_prompt() -> None:
    """By hand: [3, 4]; nothing; [3] of [3, 4] that begins all; all but the last token; all but the last; nothing."""
    shared = {kind: build(kind).encode(history(kind)).shared.tolist() for kind in PROMPTS}
    assert shared == {
        "one beginning": [3, 4],
        "no beginning": [],
        "one begins another": [3],
        "all equal": [3, 4],
        "one prompt": [3, 4, 5],
        "one token": [],
    }
    for kind, prompts in PROMPTS.items():
        encoded = build(kind).encode(history(kind))
        for at in (encoded, encoded.whole()):
            assert at.lengths.tolist() == [len(p) for p in prompts]
            rests = [row[there].tolist() for row, there in zip(at.tokens, at.there, strict=True)]
            assert [at.shared.tolist() + rest for rest in rests] == prompts
            places = [row[there].tolist() for row, there in zip(at.positions, at.there, strict=True)]
            assert [list(range(len(at.shared))) + place for place in places] == [[*range(len(p))] for p in prompts]


def test_padding_does_not_matter_even_where_it_is_the_end_of_text() -> None:
    """P9: the places to the left of a short prompt hold token 0, which is the end of text here; any other will do."""
    policy, items = build("no beginning"), torch.tensor(ITEMS)
    encoded = policy.encode(history("no beginning"))
    expected = score(policy, encoded, items).vocab
    encoded.tokens[~encoded.there] = 17
    assert_close(score(policy, encoded, items).vocab, expected, atol=1e-6, rtol=0)


# Steps.


@pytest.mark.parametrize("kind", list(PROMPTS))
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_steps_are_teacher_forcing(kind: str, training: bool, lora: bool) -> None:
    """P1: beams that fork, cross and are dropped keep the prompt and their own tokens, in training mode too."""
    policy = build(kind, lora=lora).train(training)
    prompts = PROMPTS[kind]
    B = len(prompts)
    root, cache = policy.start(policy.encode(history(kind)))
    one, cache = policy.step(cache, torch.tensor([[1, 2, 3]]).expand(B, -1), torch.zeros(B, 3, dtype=torch.long))
    two, later = policy.step(cache, torch.tensor([[5, 6]]).expand(B, -1), torch.tensor([[2, 0]]).expand(B, -1))
    last, _ = policy.step(later, torch.tensor([[7, 8, 9]]).expand(B, -1), torch.tensor([[1, 1, 0]]).expand(B, -1))
    again, _ = policy.step(cache, torch.tensor([[5, 6]]).expand(B, -1), torch.tensor([[2, 0]]).expand(B, -1))
    assert torch.equal(two, again)  # the cache of before is as it was
    reached = [([], root), ([[1], [2], [3]], one), ([[3, 5], [1, 6]], two), ([[1, 6, 7], [1, 6, 8], [3, 5, 9]], last)]
    for paths, states in reached:
        for b, prompt in enumerate(prompts):
            whole = [policy.model(input_ids=torch.tensor([prompt + path])).logits[0, -1] for path in paths or [[]]]
            assert_close(policy.head(states[b]), torch.stack(whole), atol=1e-4, rtol=0)


def test_a_search_with_checkpointing_asks_for_evaluation_mode() -> None:
    """In training mode transformers would drop the cache and score every token without its prompt."""
    policy = build().train()
    policy._bare.gradient_checkpointing_enable({"use_reentrant": False})
    encoded = policy.encode(history("one beginning"))
    with pytest.raises(BenchError, match=r"call policy\.eval\(\)"):
        policy.start(encoded)
    expected, _ = build().start(encoded)
    assert_close(policy.eval().start(encoded)[0], expected)


@torch.no_grad()
def test_embedding_is_the_last_state_of_a_text_alone(lora: bool) -> None:
    policy = build(lora=lora)
    texts = [[5, 1, 2, 7], [5], [6, 7], [5, 1]]
    padded = torch.tensor([text + [-1] * (4 - len(text)) for text in texts])
    inner = policy._bare.model
    expected = torch.stack([inner(input_ids=torch.tensor([t])).last_hidden_state[0, -1] for t in texts])
    assert_close(policy.embed(padded), expected, atol=1e-5, rtol=0)


# Precision.


def test_scores_under_bfloat16_autocast_are_close_and_summed_in_float32() -> None:
    policy, items = build(), torch.tensor(ITEMS)
    full = score(policy, policy.encode(history("one beginning")), items).vocab
    with torch.autocast("cpu", torch.bfloat16):
        encoded = policy.encode(history("one beginning"))
        half = score(policy, encoded, items).vocab
        states, cache = policy.start(encoded)
        stepped, _ = policy.step(cache, torch.full((4, 1), 5), torch.zeros(4, 1, dtype=torch.long))
        logits = policy.head(states)
        assert policy.embed(torch.tensor([[5, 1]])).dtype == torch.float32
    assert half.dtype == logits.dtype == torch.float32
    assert not torch.equal(half, full)
    assert_close(half, full, atol=0.5, rtol=0)  # log-probabilities go down to about -20
    expected = states.float() @ policy._bare.get_output_embeddings().weight.T
    assert_close(logits, expected, atol=1e-5, rtol=1e-5)  # no rounding to bfloat16 in the head
    assert stepped.shape == (4, 1, 16)


def test_a_small_step_moves_the_weights() -> None:
    """P3: at a learning rate of 1e-7 a weight in bfloat16 would stay where it is."""
    policy = build()
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    before = [p.detach().clone() for p in policy.parameters()]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6, weight_decay=0)
    score(policy, policy.encode(history("one beginning")), torch.tensor(ITEMS)).vocab.sum().backward()
    optimizer.step()
    moved = [float((p != b).float().mean()) for p, b in zip(policy.parameters(), before, strict=True)]
    assert min(moved) > 0.5


# Copies and files.


def test_the_frozen_copy_shares_what_is_not_trained_and_stays(lora: bool) -> None:
    policy, items = build(lora=lora), torch.tensor(ITEMS)
    encoded = policy.encode(history("one beginning"))
    before = score(policy, encoded, items).vocab.detach()
    copy = policy.frozen()
    assert copy.prompts is policy.prompts
    assert copy.catalogue is policy.catalogue
    assert not any(p.requires_grad for p in copy.parameters())
    same = {
        n: p.data_ptr() == q.data_ptr() for (n, p), q in zip(policy.named_parameters(), copy.parameters(), strict=True)
    }
    assert same == {n: not p.requires_grad for n, p in policy.named_parameters()}
    assert any(same.values()) == lora
    with torch.no_grad():
        for p in policy.parameters():
            if p.requires_grad:
                p.add_(0.5)
    assert_close(score(copy, encoded, items).vocab, before)
    assert not torch.allclose(score(policy, encoded, items).vocab, before, atol=0.1)


def test_an_adapters_dropout_acts_in_training_mode_only() -> None:
    policy, items = build(lora=True, dropout=0.5), torch.tensor(ITEMS)
    encoded = policy.encode(history("one beginning"))
    calm = [score(policy, encoded, items).vocab for _ in range(2)]
    noisy = [score(policy.train(), encoded, items).vocab for _ in range(2)]
    assert torch.equal(*calm)
    assert not torch.equal(*noisy)


def test_saved_weights_come_back(lora: bool, tmp_path: Path) -> None:
    policy, other, items = build(lora=lora), build(lora=lora), torch.tensor(ITEMS)
    with torch.no_grad():
        for p in policy.parameters():
            if p.requires_grad:
                p.mul_(1.5)
    encoded = policy.encode(history("one beginning"))
    before, expected = (score(p, encoded, items).vocab for p in (other, policy))
    policy.save(tmp_path)
    held = {p.name for p in tmp_path.iterdir()}
    assert ({"adapter_model.safetensors", "adapter_config.json"} <= held) == lora
    assert ({"model.safetensors", "config.json"} <= held) == (not lora)
    other.load(tmp_path)
    assert torch.equal(score(other, encoded, items).vocab, expected)
    assert not torch.allclose(before, expected, atol=0.1)


def test_weights_of_another_model_are_refused(lora: bool, tmp_path: Path) -> None:
    policy, name = build(lora=lora), "adapter_model.safetensors" if lora else "model.safetensors"
    with pytest.raises(StoreError, match="no readable weights"):
        policy.load(tmp_path)
    policy.save(tmp_path)
    model = tiny(TinyShape(layers=2, d_model=32, heads=2, kv_heads=1, d_ff=32), V, EOS, EOS, positions=64)
    wider = DecoderPolicy(policy.catalogue, adapted(model, LoRA(rank=3)) if lora else model, policy.prompts)
    with pytest.raises(StoreError, match=rf"{name}: weight .* does not fit"):
        wider.load(tmp_path)
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(StoreError, match="no readable weights"):
        policy.load(tmp_path)
