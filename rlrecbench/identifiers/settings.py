"""How items get their codes: one dataclass of settings for each kind, chosen by ``kind``."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Tag

from rlrecbench.config import Count, Positive, Share, Size, Weight, build
from rlrecbench.identifiers import features, models

Features = Annotated[str, AfterValidator(features.check)]
Model = Annotated[str, AfterValidator(models.check)]


@dataclass(frozen=True)
class RKMeansIds:
    """Residual k-means over the items' text. Source: GRID."""

    kind: Literal["rkmeans"] = "rkmeans"  # residual k-means: nothing is trained
    levels: Count = 3  # codes per item before the collision code; TIGER
    codes: Count = 256  # codebook size of a level; TIGER
    features: Features = "tfidf-svd"  # or sentence-transformers:NAME, :./FOLDER, :package/NAME, or file:X.npy
    dim: Count = 64  # width of tfidf-svd; GRID's latent width
    dedup: bool = True  # append a collision code; TIGER
    seed: Size = 42  # of features and codes, which are the same for all seeds of a suite

    @property
    def tokens(self) -> int:
        """Tokens of an item."""
        return self.levels + self.dedup


@dataclass(frozen=True)
class Quantised:
    """What RQ-VAE and LETTER have in common; the defaults are those of RQ-VAE."""

    levels: Count = 3  # learned codes per item; TIGER
    codes: Count = 256  # codebook size of a level; TIGER, LETTER
    features: Features = "tfidf-svd"  # or sentence-transformers:NAME, :./FOLDER, :package/NAME, or file:X.npy
    dim: Count = 256  # width of tfidf-svd; ours
    hidden: tuple[Count, ...] | None = None  # widths of the encoder's layers; none: TIGER's, scaled to the features
    latent: Count = 32  # width of codes; TIGER, LETTER
    batch_norm: bool = False  # normalise hidden layers over the batch; LC-Rec's option
    commitment: Weight = 0.25  # weight of the encoder's side of the quantisation loss; TIGER, LETTER's mu
    straight_through: Literal["level", "sum"] = "level"  # gradient past each level's code, or past their sum; LC-Rec
    init: Literal["kmeans", "constrained"] = "kmeans"  # codebooks begin at clusters of all items; LC-Rec
    lr: Positive = 1e-3  # AdamW's learning rate, constant; LETTER
    weight_decay: Weight = 1e-4  # of AdamW; LC-Rec, LETTER
    batch_size: Count = 1024  # items per step; TIGER, LC-Rec, LETTER
    epochs: Count = 1000  # at most; ours, where collisions have settled on Beauty (LC-Rec: 10,000)
    patience: Count = 200  # epochs without fewer collisions or .1 % less reconstruction error before it stops; ours
    evaluate: Count = 10  # epochs between looks at all items; ours
    revive: Size = 10  # epochs, then the next look moves unused codes to random items' residuals, 0: never; ours
    sinkhorn: Share = 0.0  # regularisation of the uniform mapping at the last level, 0: nearest code; LC-Rec has .003
    reassign: Size = 0  # rounds of giving items that share all codes another last code; LC-Rec has 20
    dedup: bool = True  # append a collision code; TIGER
    seed: Size = 42  # of features and codes, which are the same for all seeds of a suite

    def __post_init__(self) -> None:
        if self.reassign and not self.sinkhorn:
            raise ValueError(
                "reassign maps colliding items by Sinkhorn: set sinkhorn above 0 (0.003), or reassign to 0"
            )
        if self.batch_norm and self.batch_size < 3:
            raise ValueError("batch_norm needs batches of several items: set batch_size to 3 or more")
        if self.patience < self.evaluate:
            raise ValueError("patience counts epochs between looks at all items: set it to evaluate or more")

    def layers(self, width: int) -> tuple[int, ...]:
        """Widths of the encoder from the features (of this width) to the latent, both included.

        Of themselves TIGER's 768-512-256-128-32, scaled; no layer is narrower than the latent.
        """
        own = tuple(max(self.latent, round(width * share)) for share in (2 / 3, 1 / 3, 1 / 6))
        return (width, *(own if self.hidden is None else self.hidden), self.latent)

    @property
    def tokens(self) -> int:
        """Tokens of an item."""
        return self.levels + self.dedup


@dataclass(frozen=True)
class RQVAEIds(Quantised):
    """A residual-quantised autoencoder of the items' text. Source: TIGER, section 3.1; LC-Rec's code."""

    kind: Literal["rqvae"] = "rqvae"  # residual-quantised autoencoder, trained here


@dataclass(frozen=True)
class LetterIds(Quantised):
    """RQ-VAE with collaborative alignment and diverse codes. Source: LETTER, section 3 and its code."""

    kind: Literal["letter"] = "letter"  # RQ-VAE with collaborative alignment and diversity, trained here
    levels: Count = 4  # learned codes per item; LETTER
    init: Literal["kmeans", "constrained"] = "constrained"  # codebooks begin at clusters of bounded size; LETTER
    revive: Size = 0  # epochs, then the next look moves unused codes to random items' residuals, 0: never; LETTER
    sinkhorn: Share = 0.003  # regularisation of the uniform mapping at the last level; LETTER's code
    reassign: Size = 20  # rounds of giving items that share all codes another last code; LETTER's code
    dedup: bool = False  # append a collision code; LETTER leaves what still collides
    alignment: Weight = 0.1  # weight of the contrast with collaborative embeddings; LETTER's code, Beauty (alpha)
    diversity: Weight = 1e-4  # weight of the contrast within clusters of codes; LETTER's code, Beauty (beta)
    clusters: Count = 10  # clusters of the codes of a level; LETTER
    cluster_every: Count = 50  # epochs between clusterings of the codes; ours (LETTER: 1, most of its time)


@dataclass(frozen=True)
class ReleasedIds:
    """The index that LETTER's authors released for the data set."""

    kind: Literal["released"] = "released"  # NAME.letter_index.json beside the data
    codes: Count = 256  # codebook size of a level; LETTER

    @property
    def tokens(self) -> int:
        """Tokens of an item, as far as is known before the file is read."""
        return 4


@dataclass(frozen=True)
class FileIds:
    """An index file in LETTER's format: item id -> codes."""

    kind: Literal["file"] = "file"  # an index file
    path: str = ""  # the file, from the suite's folder
    codes: Count | None = None  # codebook size of a level; none: as many as the file's largest code needs
    content: Count | None = None  # leading levels that say what the item is; none: all, no collision code

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is missing: give the index file, such as 'path: my.index.json'")

    @property
    def tokens(self) -> int:
        """Tokens of an item, as far as is known before the file is read."""
        return 4


@dataclass(frozen=True)
class TitleIds:
    """Titles: an item is the tokens of its title, as a language model's tokenizer cuts it. Source: BIGRec; Flower."""

    kind: Literal["titles"] = "titles"  # the tokens of the item's title
    model: Model = "tiny"  # tiny (tokenizer trained on the catalogue), a hub name (NAME@REVISION), or a folder
    vocab: Count = 4096  # tokens of tiny's tokenizer, fewer where the titles give fewer; ours
    noun: str | None = None  # what the prompt calls the items, in the plural; none: what the data set's are called
    max_prompt: Count = 512  # tokens; a longer prompt loses its oldest titles; BIGRec's code

    def __post_init__(self) -> None:
        if self.vocab < 258:
            raise ValueError("vocab holds 256 bytes and 2 special tokens before any word: set it to 512 or more")
        if self.noun is not None and (not self.noun.strip() or "\n" in self.noun):
            raise ValueError("noun is what the prompt calls the items, such as 'movies': words in one line")


CodeIds = RKMeansIds | RQVAEIds | LetterIds | ReleasedIds | FileIds
AnyIds = CodeIds | TitleIds
KINDS: dict[str, type[AnyIds]] = {cls.kind: cls for cls in get_args(AnyIds)}
IdSettings = (
    Annotated[RKMeansIds, Tag("rkmeans")]
    | Annotated[RQVAEIds, Tag("rqvae")]
    | Annotated[LetterIds, Tag("letter")]
    | Annotated[ReleasedIds, Tag("released")]
    | Annotated[FileIds, Tag("file")]
)


def or_kind(default: str) -> Discriminator:
    """Let :data:`IdSettings` that do not say their kind be of this one."""
    return Discriminator(
        lambda data: data.get("kind", default) if isinstance(data, dict) else getattr(data, "kind", default)
    )


def portable_ids(ids: AnyIds) -> AnyIds:
    """Return the settings without what stages know better: of files their checksums, of features their own width."""
    if isinstance(ids, FileIds):
        return replace(ids, path="index.json")
    if isinstance(ids, TitleIds):
        return replace(ids, model=models.portable(ids.model))
    if isinstance(ids, ReleasedIds):
        return ids
    own = ids.features != "tfidf-svd"
    return replace(ids, features=features.nameless(ids.features), dim=type(ids)().dim if own else ids.dim)


def id_settings(data: dict[str, Any]) -> AnyIds:
    """Make settings from what :func:`~rlrecbench.config.plain` made of some."""
    return build(KINDS[data["kind"]], data, "ids")
