"""Backbones that a suite can name: which identifiers the items get, and which policy walks their trie."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import torch

from rlrecbench.config import STRICT, Count, Share
from rlrecbench.identifiers import (
    AnyIds,
    Identifiers,
    IdSettings,
    LetterIds,
    RQVAEIds,
    TitleIds,
    models,
    or_kind,
    portable_ids,
)
from rlrecbench.identifiers.settings import Model
from rlrecbench.identifiers.titles import Titles
from rlrecbench.policy.base import Policy
from rlrecbench.policy.language import LoRA, TinyShape
from rlrecbench.registry import Registry
from rlrecbench.seeds import stream


class Backbone:
    """What turns identifiers into a policy. Subclasses are frozen dataclasses of settings with ``ids`` among them."""

    __pydantic_config__ = STRICT
    version: ClassVar[int] = 1
    ids: AnyIds

    def policy(self, identifiers: Any, seed: int, place: str) -> Policy:
        """Create the untrained policy of one seed.

        Args:
            identifiers: What the stage of :attr:`ids` published.
            seed: Root seed of the weights.
            place: The files that the settings name, resolved.
        """
        raise NotImplementedError

    def portable(self) -> Self:
        """The settings without what stages know better: of files their checksums."""
        return replace(self, ids=portable_ids(self.ids))  # type: ignore[type-var]

    def flops(self, items: float, candidates: float) -> float:
        """Estimate a forward pass: a prompt of so many items, and so many candidates or beams."""
        raise NotImplementedError

    def megabytes(self, reference: bool) -> float:
        """Estimate what weights, gradients and AdamW's moments take in training, and a reference policy's weights."""
        return 0.0


_TEMPLATE, _TITLE = 60, 7  # tokens of a prompt without titles, and of a title: Movies and TV

backbones: Registry[type[Backbone]] = Registry("backbone")
backbone = backbones.register


@backbone("tiger", cite="rajput2023tiger")
@dataclass(frozen=True)
class Tiger(Backbone):
    """T5 from scratch over semantic ids of item text: RQ-VAE's 3 codes of 256 and a collision code.

    Differs:
        - TIGER embeds title, price, brand and category with Sentence-T5, LETTER title and description with LLaMA-7B;
          here all the text of an item becomes TF-IDF vectors, which need no download. ``ids.features`` takes a
          sentence-transformers model or a file of vectors.
        - Features are centred and scaled by one number to a mean square of 1; left at unit length, their
          reconstruction would weigh 1/D of the quantisation.
        - TIGER trains its RQ-VAE with Adagrad for 20,000 epochs, LETTER with AdamW for as many; here AdamW, at most
          1,000 epochs, and the last weights are kept, not those with the fewest collisions.
        - The encoder has TIGER's layers, scaled to the width of the features; LETTER's goes from 4096 to 2048-1024-512-
          256-128-64 (``ids.hidden``).
        - With ``kind: rqvae`` unused codes move to random items' residuals every ten epochs (``ids.revive``);
          the paper asks for 80 % usage and does not say how.
        - Items of equal features always get equal codes; only a collision code tells them apart.
        - TIGER puts a token of the user before the history; public code leaves it out, and so do we.
    """

    preset: Literal["paper", "tiny"] = "paper"  # paper: 4 + 4 layers, width 128; LETTER's TIGER configuration
    ids: Annotated[IdSettings, or_kind("rqvae")] = RQVAEIds()  # how items get their codes
    dropout: Share | None = None  # none: the preset's, 0.1

    def policy(self, identifiers: Identifiers, seed: int, place: str) -> Policy:
        """Create the T5 with weights drawn from the seed's own stream."""
        from rlrecbench.policy.t5 import T5Policy

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "weights"))
            return T5Policy(identifiers.catalogue(), self._shape())

    def flops(self, items: float, candidates: float) -> float:
        """Count the multiply-adds of the layers twice."""
        from rlrecbench.policy.t5 import flops

        tokens = self.ids.tokens
        return flops(self._shape(), tokens * (self.ids.codes or 256), items * tokens, candidates * tokens)

    def _shape(self) -> Any:
        from rlrecbench.policy.t5 import PRESETS

        shape = PRESETS[self.preset]
        return shape if self.dropout is None else replace(shape, dropout=self.dropout)


@backbone("letter", cite="wang2024letter")
@dataclass(frozen=True)
class Letter(Tiger):
    """T5 from scratch over LETTER's semantic ids: 4 codes of 256 that know text and collaborative embeddings.

    Differs:
        - LETTER released neither its SASRec nor a recipe for it; here it is the suite's ``collab:`` at the latent's
          width, trained on the training part with the identifiers' own seed.
        - Codes are clustered for the diversity loss every 50 epochs from one start (``ids.cluster_every``), in the code
          every epoch from ten; codebooks begin at clusters of one start too. The loss takes its logits between codes,
          which gives each item the same value.
        - The ranking-guided loss of the paper has temperature 1 in its code, which is plain cross-entropy: ``sft``.
    """

    ids: Annotated[IdSettings, or_kind("letter")] = LetterIds()  # trained here; the authors' index is {kind: released}


@backbone("bigrec-qwen", cite="bao2023bigrec")
@dataclass(frozen=True)
class BigrecQwen(Backbone):
    """A decoder language model that writes the title of the next item: BIGRec; fine-tuned by ``sft`` it is BIGRec.

    Differs:
        - BIGRec lets the model write what it likes and looks for the nearest title (``bigrec-grounding``); here, as in
          D3 and Flower, the search keeps to the titles there are.
        - BIGRec trains LLaMA-7B with an adapter on the loss of the prompt as well (``lora``), Flower all weights of
          Qwen2.5-1.5B-Instruct in bfloat16 on the title; here all weights in float32, or an adapter, on the title.
        - The prompt has the form of BIGRec's and Flower's, in words of our own, without a chat template.
        - Each prompt keeps its newest titles where it is too long; public code cuts tokens off the front.
        - ``tiny`` has random weights, and a tokenizer trained on the catalogue's titles: for CPUs and tests.
    """

    model: Model = "tiny"  # tiny (made here), a hub name (NAME@REVISION), or a folder; Flower has Qwen2.5-1.5B-Instruct
    lora: LoRA | None = None  # an adapter is trained in place of all weights; BIGRec
    checkpointing: bool = False  # keep layers' inputs only and run them again for the gradient: slower, less memory
    max_prompt: Count = 512  # tokens; a longer prompt loses its oldest titles; BIGRec's code
    noun: str | None = None  # what the prompt calls the items, in the plural; none: what the data set's are called
    vocab: Count = 4096  # tokens of tiny's tokenizer at most; ours
    tiny: TinyShape = TinyShape()  # size of tiny

    def __post_init__(self) -> None:
        TitleIds(vocab=self.vocab, noun=self.noun)  # says what it cannot use

    @property
    def ids(self) -> TitleIds:  # type: ignore[override]  # a setting of codes, here it follows from the model
        """Titles, as the model's tokenizer cuts them."""
        return TitleIds(model=self.model, vocab=self.vocab, noun=self.noun, max_prompt=self.max_prompt)

    def policy(self, identifiers: Titles, seed: int, place: str) -> Policy:
        """Load the model, or make it with weights drawn from the seed's own stream."""
        from rlrecbench.policy import language
        from rlrecbench.policy.decoder import DecoderPolicy

        catalogue = identifiers.catalogue()
        longest = self.max_prompt + catalogue.max_length
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "weights"))
            if place == models.TINY:
                model = language.tiny(self.tiny, identifiers.vocab, identifiers.eos, identifiers.pad, longest)
            else:
                model = language.pretrained(models.folder_of(models.pinned(place, identifiers.commit)))
                language.must_reach(model, longest, place)
            if self.checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            if self.lora is not None:
                model = language.adapted(model, self.lora)
        return DecoderPolicy(catalogue, model, identifiers.prompts)

    def portable(self) -> Self:
        """The settings without the model's path."""
        return replace(self, model=models.portable(self.model))

    def flops(self, items: float, candidates: float) -> float:
        """Count the multiply-adds of the weights twice, for prompts and titles of usual length."""
        from rlrecbench.policy.language import weights

        blocks, head = weights(self.model, self.tiny, self.vocab)
        return 2 * (blocks * (_TEMPLATE + _TITLE * (items + candidates)) + head * _TITLE * candidates)

    def megabytes(self, reference: bool) -> float:
        """Count 16 bytes a trained weight and 4 a frozen one; an adapter's own are too few to count."""
        from rlrecbench.policy.language import weights

        trained = 16 + 4 * reference if self.lora is None else 4
        return trained * sum(weights(self.model, self.tiny, self.vocab)) / 2**20
