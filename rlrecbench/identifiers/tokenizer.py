"""Tokenizers of titles: one trained on texts, or that of a language model."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rlrecbench.errors import ConfigError

EOS, PAD = "<|endoftext|>", "<|pad|>"
# Words with the blank before them, single digits, punctuation with the newlines after it, newlines, other blanks: as
# Qwen2's tokenizer cuts, in which a newline sticks to the punctuation before it.
_PIECES = r" ?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+\n*|\s*\n+|\s+(?!\S)|\s"


def trained(texts: Iterable[str], size: int) -> Any:
    """Train a byte-level BPE tokenizer.

    It encodes every text and changes none. The same texts give the same tokenizer.

    Args:
        texts: What to train on.
        size: Tokens at most, the 256 bytes and two special tokens included.

    Returns:
        A transformers tokenizer with an end of text and a padding token.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_PIECES), "isolated"), to_bytes])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, pad_token=PAD)


def loaded(folder: Path) -> Any:
    """Load a tokenizer from a folder; no code in it is run, and nothing is downloaded.

    Raises:
        ConfigError: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as e:  # a broken file comes as any of a dozen classes
        raise ConfigError(
            f"{folder}: its tokenizer cannot be loaded ({type(e).__name__}: {str(e).strip().partition(chr(10))[0]}); "
            "save it there with save_pretrained of this release of transformers"
        ) from e


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens around it."""
    if not texts:
        return []
    made = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [list(ids) for ids in made["input_ids"]]


def decoded(tokenizer: Any, paths: Sequence[Sequence[int]]) -> list[str]:
    """Text of each row of tokens, as they spell it."""
    return list(tokenizer.batch_decode(paths, clean_up_tokenization_spaces=False))


def opening(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer puts before any text: none for Qwen, a beginning of text for LLaMA."""
    whole, bare = list(tokenizer("a")["input_ids"]), encoded(tokenizer, ["a"])[0]
    starts = [i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare]
    return whole[: starts[0]] if starts else []
