"""Models from folders in the hub's format: loaded, adapted, trained, saved, and refused where the passes do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from rlrecbench import registry
from rlrecbench.backbones import BigrecQwen
from rlrecbench.config import build
from rlrecbench.conformance import Probe
from rlrecbench.errors import BenchError, ConfigError, DataError
from rlrecbench.identifiers.titles import Titles, make
from rlrecbench.method import FineTune, methods
from rlrecbench.policy import language
from rlrecbench.policy.base import Policy
from rlrecbench.policy.decoder import DecoderPolicy
from rlrecbench.policy.language import LoRA, TinyShape, adapted, must_be_plain, must_reach, pretrained, tiny
from rlrecbench.policy.search import beam
from rlrecbench.train import Budget, TrainJob, train

registry.load()
SMALL: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 60, "max_position_embeddings": 700,
    "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None,
}  # fmt: skip
ADAPTER = BigrecQwen(model="./m", lora=LoRA(dropout=0.1))


def model(config: PreTrainedConfig, seed: int = 0, attention: str | None = "sdpa") -> Any:
    """A model with random weights that are not small."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
    return made


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe(build(methods["sft"], {}, "sft"), "titles")


@pytest.fixture(scope="module")
def folder(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama in bfloat16 with its tokenizer and a generation config as instruction models ship it."""
    path = tmp_path_factory.mktemp("hub") / "m"
    settings = {**SMALL, "vocab_size": len(probe.titles.tokenizer), "eos_token_id": probe.titles.eos}
    model(LlamaConfig(**settings, tie_word_embeddings=False)).bfloat16().save_pretrained(path)
    probe.titles.tokenizer.save_pretrained(path)
    eos = probe.titles.eos
    loud = {"do_sample": True, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.1, "eos_token_id": [eos, 5]}
    (path / "generation_config.json").write_text(json.dumps(loud))
    return path


def titles_of(probe: Probe, backbone: BigrecQwen, folder: Path) -> Titles:
    items = probe.data.items
    return make(items.title.tolist(), items.item_id.tolist(), backbone.ids, str(folder), "things")


def policy_of(probe: Probe, backbone: BigrecQwen, folder: Path) -> DecoderPolicy:
    policy = backbone.policy(titles_of(probe, backbone, folder), 3, str(folder))
    assert isinstance(policy, DecoderPolicy)
    return policy


def lists_of(policy: Policy) -> tuple[Tensor, Tensor]:
    found = beam(policy.eval(), policy.encode(torch.tensor([[3, 7], [40, -1], [-1, -1]])), 10)
    return found.leaves, found.scores


# Loading.


def test_weights_are_float32_whatever_the_checkpoint_has(probe: Probe, folder: Path) -> None:
    """P3; the values are those of the bfloat16 file."""
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    policy = policy_of(probe, BigrecQwen(model="./m"), folder)
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    kept = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
    for name, value in policy.model.state_dict().items():
        assert torch.equal(value, kept[name].float())


def test_a_generation_config_changes_no_list(probe: Probe, folder: Path, tmp_path: Path) -> None:
    """P2, P4: transformers itself would sample with it, and look out for two ends of text."""
    plain = tmp_path / "m"
    plain.mkdir()
    for file in folder.iterdir():
        if file.name != "generation_config.json":
            (plain / file.name).write_bytes(file.read_bytes())
    loud = AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert loud.do_sample
    assert loud.eos_token_id == [probe.titles.eos, 5]
    one, two = (policy_of(probe, BigrecQwen(model="./m"), path) for path in (folder, plain))
    for a, b in zip(lists_of(one), lists_of(two), strict=True):
        assert torch.equal(a, b)
    kept = one.model.generation_config
    assert kept.eos_token_id == probe.titles.eos
    defaults = (kept.do_sample, kept.temperature, kept.top_k, kept.repetition_penalty)
    assert all(value in (None, False, 1.0, 50) for value in defaults)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"broken"), "holds no causal language model that"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "holds no causal language model that"),
        (lambda f: (f / "config.json").write_text("{"), "holds no causal language model that"),
        (lambda f: (f / "config.json").write_text('{"model_type": "t5"}'), "holds no causal language model that"),
        (lambda f: _drop(f, "model.layers.1.mlp.up_proj.weight"), r"1 weights are missing \(model.layers.1.mlp.up"),
        (lambda f: _reshape(f, "model.norm.weight"), "holds no causal language model that"),
    ],
)
def test_a_broken_folder_is_told_in_one_sentence(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(DataError, match=sentence) as e:
        pretrained(tmp_path)
    assert "\n" not in str(e.value)


def _drop(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    save_file({n: v for n, v in held.items() if n != name}, folder / "model.safetensors", {"format": "pt"})


def _reshape(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    held = load_file(folder / "model.safetensors")
    save_file({**held, name: torch.zeros(5)}, folder / "model.safetensors", {"format": "pt"})


# Models that the forward passes fit, and others.


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SMALL),
        Qwen3Config(**SMALL),
        LlamaConfig(**SMALL, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
        MistralConfig(**SMALL),
        GraniteConfig(**SMALL, logits_scaling=1.0, embedding_multiplier=12.0, residual_multiplier=0.5),
    ],
    ids=lambda c: c.model_type,
)
def test_a_plain_decoder_is_taken(config: PreTrainedConfig) -> None:
    made = model(config).train()
    must_be_plain(made, "m")
    assert made.training


REFUSED = {
    "granite": (GraniteConfig(**SMALL, logits_scaling=8.0), "scores texts under a tree mask otherwise than alone"),
    "cohere": (
        CohereConfig(**{k: v for k, v in SMALL.items() if k != "head_dim"}, logit_scale=0.0625),
        "scores texts under a tree mask otherwise than alone",
    ),
    "gemma2": (
        Gemma2Config(**SMALL, final_logit_softcapping=0.5, query_pre_attn_scalar=8),
        "can load with torch's attention: Gemma2ForCausalLM does not support",
    ),
    "mamba": (
        MambaConfig(vocab_size=60, hidden_size=16, state_size=4, num_hidden_layers=1, eos_token_id=0),
        "can load with torch's attention: MambaForCausalLM does not support",
    ),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_scaled_logits_and_recurrent_layers_are_refused(kind: str, tmp_path: Path) -> None:
    config, sentence = REFUSED[kind]
    model(config, attention=None).save_pretrained(tmp_path)
    with pytest.raises(BenchError, match=f"^{tmp_path}: .*{sentence}") as e:
        pretrained(tmp_path)
    assert "\n" not in str(e.value)


def test_recurrent_layers_take_no_tree_mask() -> None:
    with pytest.raises(BenchError, match=r"^m: MambaForCausalLM (takes no tree mask|scores texts under a tree mask)"):
        must_be_plain(model(REFUSED["mamba"][0], attention=None), "m")


def test_a_model_whose_mask_is_dropped_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(Qwen2Config(**SMALL))
    forward = made.model.forward
    monkeypatch.setattr(made.model, "forward", lambda **given: forward(**{**given, "attention_mask": None}))
    with pytest.raises(BenchError, match="scores texts under a tree mask otherwise than alone"):
        must_be_plain(made, "m")


def test_a_shape_that_no_model_can_have_is_refused() -> None:
    for shape in ({"d_model": 30, "heads": 4}, {"heads": 3, "d_model": 66, "kv_heads": 2}):
        with pytest.raises(ValueError, match="d_model must be a multiple of"):
            TinyShape(**shape)


# Adapters.


def test_only_the_adapter_is_trained_and_it_starts_as_nothing() -> None:
    """Rank 8 on q_proj (16 -> 16) and v_proj (16 -> 8) of two layers: 2 * (8 * (16 + 16) + 8 * (16 + 8)) weights."""
    made = model(Qwen2Config(**SMALL)).eval()
    tokens = torch.tensor([[3, 5, 7]])
    before = made(tokens).logits
    wrapped = adapted(made, LoRA()).eval()
    assert torch.equal(wrapped(tokens).logits, before)
    weights = {n: p.numel() for n, p in wrapped.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in weights)
    assert sum(weights.values()) == 2 * (8 * (16 + 16) + 8 * (16 + 8))


def test_targets_without_a_layer_are_told_with_those_there_are() -> None:
    with pytest.raises(BenchError, match=r"lora\.targets: c_attn match no layer .*gate_proj, k_proj, .*q_proj"):
        adapted(model(Qwen2Config(**SMALL)), LoRA(targets=("c_attn",)))


def test_a_tiny_model_is_of_the_seed() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(tiny(TinyShape(layers=1, d_model=16), 60, 0, 1, 32).state_dict())
    same = [all(torch.equal(v, other[n]) for n, v in states[0].items()) for other in states]
    assert same == [True, True, False]
    probe = Probe(build(methods["sft"], {}, "sft"), "titles")
    one, again = (BigrecQwen(vocab=400).policy(probe.titles, seed, "tiny") for seed in (1, 1))
    other = BigrecQwen(vocab=400).policy(probe.titles, 2, "tiny")
    weights = [torch.cat([p.flatten() for p in policy.parameters()]) for policy in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# From a folder through training to a folder.


def job(probe: Probe, backbone: BigrecQwen, source: Path, folder: Path, name: str = "sft") -> TrainJob:
    method = build(methods[name], {}, name)
    assert isinstance(method, FineTune)
    budget = build(Budget, {**dict(method.budget), "epochs": 2, "batch_size": 32, "lr": 1e-3, "epoch_share": 0.25}, "t")
    folder.mkdir()
    return TrainJob(probe.data, policy_of(probe, backbone, source), method, budget, 1, folder, beams=5, device="cpu")


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_a_killed_training_of_an_adapter_ends_with_the_same_bytes(
    name: str, probe: Probe, folder: Path, tmp_path: Path
) -> None:
    whole = train(job(probe, ADAPTER, folder, tmp_path / "a", name))
    killed = job(probe, ADAPTER, folder, tmp_path / "b", name)
    with pytest.raises(KeyboardInterrupt):
        train(killed, _after(2))
    resumed = train(replace(killed, policy=policy_of(probe, ADAPTER, folder)))
    assert whole.steps == resumed.steps == 4
    assert whole.weights.keys() == resumed.weights.keys()
    assert all("lora_" in key for key in whole.weights)
    assert all(torch.equal(value, resumed.weights[key]) for key, value in whole.weights.items())


def _after(steps: int) -> Callable[[float, float, str], None]:
    """Interrupt in the validation that follows so many steps, when the state was saved."""

    def stop(done: float, total: float, note: str) -> None:
        if done >= steps:
            raise KeyboardInterrupt

    return stop


def test_an_adapter_is_trained_and_saved_alone(probe: Probe, folder: Path, tmp_path: Path) -> None:
    """The reference keeps the adapter of the start, shares the rest, and the base's weights stay the folder's."""
    task = job(probe, ADAPTER, folder, tmp_path / "run")
    policy = task.policy
    reference, start = policy.frozen(), lists_of(policy)
    train(task)
    policy.eval()
    assert_close(lists_of(reference)[1], start[1])
    assert not torch.allclose(lists_of(policy)[1], start[1], atol=1e-3)
    shared = {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in reference.parameters()}
    assert shared == {p.data_ptr() for p in policy.parameters() if not p.requires_grad}
    saved = tmp_path / "saved"
    saved.mkdir()
    policy.save(saved)
    assert {p.name for p in saved.iterdir()} >= {"adapter_model.safetensors", "adapter_config.json"}
    assert not (saved / "model.safetensors").exists()
    fresh = policy_of(probe, ADAPTER, folder)
    fresh.load(saved)
    for a, b in zip(lists_of(fresh), lists_of(policy), strict=True):
        assert torch.equal(a, b)


def test_all_weights_are_trained_and_saved_for_transformers(probe: Probe, folder: Path, tmp_path: Path) -> None:
    """What is saved scores in a plain AutoModelForCausalLM as it does here."""
    task = job(probe, BigrecQwen(model="./m"), folder, tmp_path / "run")
    policy = task.policy
    assert isinstance(policy, DecoderPolicy)
    before = lists_of(policy)[1]
    train(task)
    leaves, scores = lists_of(policy)
    assert not torch.allclose(scores, before, atol=1e-3)
    saved = tmp_path / "saved"
    saved.mkdir()
    policy.save(saved)
    theirs = AutoModelForCausalLM.from_pretrained(saved).eval()
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    prompt = policy.prompts(torch.tensor([[3, 7]]).numpy())[0]
    for leaf, score in zip(leaves[0].tolist(), scores[0].tolist(), strict=True):
        path = policy.catalogue.paths[policy.catalogue.items_of(leaf)[0]]
        text = torch.tensor([prompt + path[path >= 0].tolist()])
        with torch.no_grad():
            logp = theirs(text).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert float(logp.gather(-1, text[0, len(prompt) :, None]).sum()) == pytest.approx(score, abs=1e-4)


def test_a_model_shows_its_size_by_its_name() -> None:
    assert language.weights("Qwen/Qwen2.5-0.5B-Instruct", TinyShape(), 0)[0] == 5e8
    assert language.weights("./mine", TinyShape(), 0)[0] == 1.5e9


def test_estimated_weights_of_tiny_are_those_of_its_layers() -> None:
    """Counted on the model: all but norms, biases and the embedding."""
    shape = TinyShape(layers=3, d_model=32, heads=4, kv_heads=2, d_ff=48)
    made = tiny(shape, 77, 0, 1, 32)
    counted = sum(p.numel() for n, p in made.named_parameters() if p.ndim == 2 and "embed" not in n)
    assert language.weights("tiny", shape, 77) == (counted, 32 * 77)


def test_a_prompt_and_a_title_must_be_within_what_the_model_sees() -> None:
    short, windowed = (
        MistralConfig(**{**SMALL, "max_position_embeddings": 90}),
        MistralConfig(**SMALL, sliding_window=80),
    )
    for config, sees in ((short, 90), (windowed, 80)):
        made = model(config)
        must_reach(made, sees, "m")
        with pytest.raises(
            ConfigError, match=f"m: this model sees {sees} tokens, .* may have 100; lower max_prompt by"
        ):
            must_reach(made, 100, "m")
    must_reach(model(Qwen2Config(**SMALL, sliding_window=80, use_sliding_window=False)), 100, "m")
