"""Language models: what a suite may write as ``model``, and the folder with its files.

A model is ``tiny``, whose tokenizer is trained on the catalogue and whose weights are random; a hub name (``org/name``,
with ``@revision`` where it must not move); or a folder that ``save_pretrained`` wrote. Only weights in safetensors
are read, and no code that comes with a model is ever run.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rlrecbench.errors import DataError
from rlrecbench.identifiers.specs import Spec, checksum_of_folder, named_model, place_of

TINY = "tiny"
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_ELSEWHERE = ("*/*", "consolidated*")  # other formats and copies of the weights
_COMMIT = re.compile("[0-9a-f]{40}")
_PATIENCE = 10  # seconds to reach the hub
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")


def parse(model: str) -> Spec:
    """Take what a suite writes as ``model`` apart; looks at the text only.

    Raises:
        ValueError: It has none of the forms that there are.
    """
    if model == TINY:
        return Spec("tiny")
    if model.lower() == TINY:
        raise ValueError("did you mean 'tiny'?")
    spec = named_model(model)
    if spec is None:
        raise ValueError(
            "a model is tiny, a hub name such as Qwen/Qwen2.5-0.5B-Instruct (or NAME@REVISION), or a folder such as "
            "./models/qwen"
        )
    return spec


def check(model: str) -> str:
    """Return the model if it has one of the forms that there are; looks at the text only.

    Raises:
        ValueError: It has none of them.
    """
    parse(model)
    return model


def resolved(model: str, base: Path) -> str:
    """Return the model with its path made absolute, by the rules of :func:`~rlrecbench.identifiers.specs.resolved`.

    Args:
        model: What the suite says.
        base: The suite's folder.
    """
    return place_of(model, parse(model).kind, base)


def portable(model: str) -> str:
    """Return the model without the path in it: what files a folder holds is for :func:`source` to say."""
    return "./model" if parse(model).kind == "folder" else model


def source(place: str) -> str:
    """Return the identity of the files behind a resolved model: a sha256 of a folder's, "" for all others.

    A hub name has nothing but itself, and only a commit behind it says for good which files it means: what the cache
    holds before a run is not what it holds afterwards.

    Raises:
        DataError: The folder is missing or is no model, or one of its files cannot be read.
    """
    check_files(place)
    return checksum_of_folder(Path(place)) if parse(place).kind == "folder" else ""


def check_files(place: str) -> None:
    """Look at the files behind a resolved model, as far as that goes without a network and without reading weights.

    Raises:
        DataError: The folder is missing or is no model.
    """
    if parse(place).kind == "folder":
        check_folder(Path(place))


def folder_of(place: str) -> Path:
    """Return the local folder of a resolved model other than ``tiny``; a hub name is downloaded once and cached.

    Without a network the cache is used as it stands.

    Raises:
        DataError: There is no such folder, the hub has no such model, it can be reached neither in the cache nor over
            the network, or it does not hold a configuration, a tokenizer and weights in safetensors.
    """
    kind, name, revision = parse(place)
    folder = Path(place) if kind == "folder" else _downloaded(place, name, revision)
    check_folder(folder)
    return folder


def commit_of(folder: Path) -> str:
    """Return the commit of a folder in the hub's cache, "" for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else ""


def pinned(place: str, commit: str) -> str:
    """Return a resolved model at a commit, so that a hub name means the files it meant before; "" pins nothing."""
    spec = parse(place)
    return f"{spec.what}@{commit}" if spec.kind == "hub" and commit else place


def width_of(folder: Path) -> int:
    """Return how many tokens a model knows, from its configuration: the width of its logits.

    Raises:
        DataError: The configuration cannot be read, or is not that of a language model.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return int(config.get_text_config(decoder=True).vocab_size)
    except Exception as e:  # a broken file comes as any of a dozen classes
        raise DataError(
            f"{folder / 'config.json'}: the size of the vocabulary cannot be read ({_reason(e)}); give the folder of a "
            "language model that this release of transformers knows"
        ) from e


def check_folder(folder: Path) -> None:
    """Look whether a folder holds a model, without loading it.

    Raises:
        DataError: It is missing, or a file that a model needs is.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder; a path is relative to the suite's folder, and a hub name has the form "
            "org/name or org/name@revision"
        )
    if not (folder / "config.json").is_file():
        raise DataError(f"{folder}: this folder holds no model: config.json is missing; give one of save_pretrained")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise DataError(
            f"{folder}: this folder holds no tokenizer (such as tokenizer.json); save it there with save_pretrained"
        )
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        held = f"only {pickled[0]}, a pickle, which is never read" if pickled else "none"
        raise DataError(
            f"{folder}: the weights must be in safetensors, and there are {held}; load them elsewhere and save them "
            "with save_pretrained, which writes model.safetensors"
        )
    _check_code(folder)
    for shard in _shards(folder):
        if not (folder / shard).is_file():
            raise DataError(f"{folder}: {shard} is missing, which model.safetensors.index.json names; copy it as well")


def _check_code(folder: Path) -> None:
    """Refuse a model that nothing but Python code of its own can load.

    Raises:
        DataError: It is one, or its configuration cannot be read.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        code = sorted({str(value) for value in config.get("auto_map", {}).values()})
    except (OSError, ValueError, AttributeError, RecursionError) as e:
        raise DataError(f"{path}: cannot be read ({_reason(e)}); copy the model's folder again") from e
    if not code:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if config.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise DataError(
            f"{path}: this model comes with Python code of its own (auto_map: {code[0]}), which is never run, and "
            "there is no setting that allows it; use a model that transformers itself knows, such as Qwen2 or Llama"
        )


def _shards(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise DataError(f"{index}: cannot be read ({e}); copy the model's folder again") from e


def _downloaded(place: str, name: str, revision: str | None) -> Path:
    """The folder in the hub's cache, brought up to date where there is a network; a commit needs no update."""
    from huggingface_hub import model_info, snapshot_download

    get = partial(
        snapshot_download, name, revision=revision, allow_patterns=list(_FILES), ignore_patterns=list(_ELSEWHERE)
    )
    kept = _cached(get)
    if kept is not None and revision is not None and _COMMIT.fullmatch(revision):
        return kept
    try:
        model_info(name, revision=revision, timeout=_PATIENCE)  # the download would wait and try again for minutes
        return Path(get())
    except Exception as e:  # whatever the network does; the library's exceptions have no common parent
        if kept is not None:
            return kept
        at = f" --revision {revision}" if revision else ""
        raise DataError(
            f"{place}: this is no folder, is not in the cache of Hugging Face, and could not be downloaded "
            f"({_reason(e)}); run 'hf download {name}{at}' where there is a network and bring the cache along, or give "
            "the model's folder (./NAME)"
        ) from e


def _cached(get: Callable[..., str]) -> Path | None:
    """The snapshot in the cache, where it holds all that loading a model needs."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    found: str | None
    try:
        found = get(local_files_only=True)
    except (LocalEntryNotFoundError, ValueError) as e:  # not there, not all there, or no hub name
        found = getattr(e, "snapshot_path", None)
    if found is None:
        return None
    try:
        check_folder(Path(found))
    except DataError:
        return None
    return Path(found)


def _reason(error: BaseException) -> str:
    """Say in a few words what went wrong: the error's name, and the first line of the first cause that has one."""
    name = type(error).__name__
    while error.__cause__ is not None and str(error.__cause__).strip():
        error = error.__cause__
    return f"{name}: {str(error).strip().partition(chr(10))[0]}".removesuffix(": ").rstrip(".")
