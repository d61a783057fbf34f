"""Language models for the decoder backbone: tiny ones made here, those of a folder, and adapters on them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlrecbench.config import Count, Positive, Share
from rlrecbench.errors import BenchError, ConfigError, DataError

_USUAL = 1.5e9  # weights of a model whose name does not say; Flower's
_CLOSE = 1e-3  # of logits, relative to their size: float32 in another order of sums


@dataclass(frozen=True)
class TinyShape:
    """Size of a model that is made here."""

    layers: Count = 2  # decoder layers; ours
    d_model: Count = 64  # width D; ours
    heads: Count = 2  # attention heads; ours
    kv_heads: Count = 1  # heads of keys and values; ours, fewer than heads as in Qwen2
    d_ff: Count = 192  # inner width of the feed-forward layers; ours

    def __post_init__(self) -> None:
        if self.d_model % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError(
                f"d_model must be a multiple of 2 * heads, and heads of kv_heads, found {self.d_model}, {self.heads} "
                f"and {self.kv_heads}"
            )


@dataclass(frozen=True)
class LoRA:
    """A low-rank adapter: only it is trained, and the reference model is the same model with another adapter."""

    rank: Count = 8  # of the update; BIGRec
    alpha: Positive = 16.0  # the update is scaled by alpha / rank; BIGRec
    dropout: Share = 0.05  # of what goes into the adapter; BIGRec
    targets: tuple[str, ...] = ("q_proj", "v_proj")  # layers with an adapter, by the end of their names; BIGRec


def tiny(shape: TinyShape, vocab: int, eos: int, pad: int, positions: int) -> Any:
    """Make a Qwen2 with random weights from torch's global generator: seed it before.

    Args:
        shape: Size of the model.
        vocab: Tokens V.
        eos: Token that ends a text.
        pad: Token that fills up.
        positions: Longest sequence.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=vocab,
        hidden_size=shape.d_model,
        intermediate_size=shape.d_ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
        attn_implementation="sdpa",
    )
    return Qwen2ForCausalLM(config)


def pretrained(folder: Path) -> Any:
    """Load a causal language model in float32 from a folder in the hub's format; no code in it is run.

    A generation config that comes with it is dropped, so none of its settings can reach a later ``generate``.

    Raises:
        DataError: The folder holds no causal language model, or weights are missing.
        BenchError: The model does something that the forward passes of this package would miss.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        model, about = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,  # left out, transformers asks on the terminal
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as e:
        first = str(e).strip().partition("\n")[0]
        raise DataError(
            f"{folder}: holds no causal language model that transformers can load with torch's attention: {first}"
        ) from e
    missing = sorted(about["missing_keys"])
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} weights are missing ({missing[0]} first), so they would be random; save the "
            "whole model again with save_pretrained"
        )
    model.generation_config = GenerationConfig(eos_token_id=model.config.eos_token_id)
    must_be_plain(model, str(folder))
    return model


def weights(model: str, shape: TinyShape, vocab: int) -> tuple[float, float]:
    """Estimate the weights of a model's layers and of its output layer; of hub models by the size in their name."""
    if model == "tiny":
        D, share = shape.d_model, shape.kv_heads / shape.heads
        return shape.layers * (2 * D * D * (1 + share) + 3 * D * shape.d_ff), D * vocab
    size = re.search(r"([0-9]+(?:\.[0-9]+)?)b\b", model.lower())
    return float(size[1]) * 1e9 if size else _USUAL, 0.0


def adapted(model: Any, lora: LoRA) -> Any:
    """Wrap a model with an adapter whose weights come from torch's global generator; all else is frozen.

    Raises:
        BenchError: No layer has such a name.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float is fine
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as e:
        names = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
        raise BenchError(
            f"lora.targets: {', '.join(lora.targets)} match no layer of the model; its linear layers are "
            f"{', '.join(names)}"
        ) from e


def must_reach(model: Any, tokens: int, name: str) -> None:
    """Refuse a model that does not see as many tokens as a prompt and a title may have.

    Raises:
        ConfigError: It sees fewer.
    """
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    sees = min(n for n in (getattr(config, "max_position_embeddings", None), window, tokens) if n is not None)
    if sees < tokens:
        raise ConfigError(
            f"{name}: this model sees {sees} tokens, and a prompt with a title may have {tokens}; lower max_prompt by "
            f"{tokens - sees} or more"
        )


@torch.no_grad()
def must_be_plain(model: Any, name: str) -> None:
    """Refuse a model whose logits are not the output layer's of the last state, or that ignores masks and positions.

    Six tokens are run as one text, and as two texts that share a beginning under a tree mask.

    Raises:
        BenchError: The logits differ.
    """
    was = model.training
    model.eval()
    vocab = model.get_input_embeddings().num_embeddings
    shared, one, two = torch.tensor([3, 5, 7]) % vocab, torch.tensor([11, 13]) % vocab, torch.tensor([2, 17]) % vocab
    near = torch.arange(7)
    branch = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    mask = (near <= near[:, None]) & ((branch == 0) | (branch == branch[:, None]))
    try:
        states = model.get_decoder()(
            input_ids=torch.cat([shared, one, two])[None],
            position_ids=torch.tensor([[0, 1, 2, 3, 4, 3, 4]]),
            attention_mask=mask[None, None],
            use_cache=False,
        ).last_hidden_state
        logits: Tensor = model.get_output_embeddings()(states)[0]
        whole = [model(input_ids=torch.cat([shared, tail])[None], use_cache=False).logits[0, 3:] for tail in (one, two)]
        gap = float((logits[3:] - torch.cat(whole)).abs().max() / torch.cat(whole).abs().max())
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as e:
        raise BenchError(f"{name}: {type(model).__name__} takes no tree mask: {str(e).partition(chr(10))[0]}") from e
    finally:
        model.train(was)
    if not gap < _CLOSE:
        raise BenchError(
            f"{name}: {type(model).__name__} scores texts under a tree mask otherwise than alone (by {gap:.1e}), as "
            "models with recurrent layers or scaled logits do; use another one, such as Qwen2, Qwen3, Llama or Mistral"
        )
