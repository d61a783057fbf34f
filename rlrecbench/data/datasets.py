"""The known data sets: what each is, what is published about it, and where its files are.

A data set is a folder NAME with RecBole atomic files, plain or gzip: NAME.inter and NAME.item for the
protocol "leave-one-out"; NAME.train.inter, NAME.valid.inter, NAME.test.inter and NAME.item for "examples".
The item file may be absent. A folder NAME with a NAME.inter is a data set without being registered.
"""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from rlrecbench.data import sources
from rlrecbench.data.readers import find_file, read_bytes
from rlrecbench.data.sources import Kind, Sources
from rlrecbench.errors import DataError, UnknownNameError
from rlrecbench.registry import Registry

Protocol = Literal["leave-one-out", "examples"]
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read.

    Attributes:
        name: Its name in suites; also the name of its folder and files.
        title: Its name in tables.
        protocol: "leave-one-out": each user's last item is the test, the one before it the validation.
            "examples": rows of (history, target) as released.
        max_history: Items kept of each history unless the options say otherwise.
        published: Published statistics as printed, by the names of :func:`rlrecbench.data.statistics.info`;
            "6.70" stands for any number that rounds to it.
        source: Where data and published statistics come from.
        content: :func:`checksum` of the released files; "" where none is known.
        noun: What a reader would call the items, in the plural.
        sources: Its original files, for ``rlrecbench data download`` and ``data prepare``.
    """

    name: str
    title: str
    protocol: Protocol = "leave-one-out"
    max_history: int = 20
    published: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    content: str = ""
    noun: str = "items"
    sources: Sources = Sources()


datasets: Registry[Callable[[], DatasetSpec]] = Registry("dataset")


def spec_of(name: str, dirs: Sequence[Path]) -> DatasetSpec:
    """Return what is known of a data set, registered or found as a folder.

    Raises:
        UnknownNameError: The name is not registered and no data folder holds NAME/NAME.inter.
    """
    try:
        return datasets[name]()
    except UnknownNameError as e:
        found = [d / name for d in dirs if _FOLDER_NAME.fullmatch(name) and find_file(d / name / f"{name}.inter")]
        if not found:
            reason = f"{e}; nor does a data folder hold {name}/{name}.inter: {_places(dirs)}"
            raise UnknownNameError(reason) from None
    return DatasetSpec(name, name, source=str(found[0]))


def data_dirs(given: Path | None = None) -> list[Path]:
    """Return the folders to look in, first come first served.

    Args:
        given: What ``--data-dir`` says.
    """
    named = [Path(p).expanduser() for p in os.environ.get("RLRECBENCH_DATA", "").split(os.pathsep) if p]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*([given] if given else []), *named, Path("data"), cache / "rlrecbench" / "data"]


def writable_dir(given: Path | None = None) -> Path:
    """Return the folder that new data go to: the given one, else the first data folder that can be written to.

    Args:
        given: What ``--data-dir`` says; it need not be there yet.
    """
    if given:
        return given
    dirs = data_dirs()
    return next((d for d in dirs if d.is_dir() and os.access(d, os.W_OK)), dirs[-1])


def locate(name: str, dirs: Sequence[Path]) -> Path:
    """Return the folder with a data set's files.

    Raises:
        DataError: No folder has them; the message lists where they were looked for and how to get them.
        UnknownNameError: There is no such data set.
    """
    spec = spec_of(name, dirs)
    if name == "ml-100k":
        return _inside_recbole()
    for folder in (d / name for d in dirs):
        if find_file(folder / source_names(spec)[0]):
            return folder
    names = source_names(spec)
    made = f"run '{commands}', " if (commands := commands_for(spec)) else ""
    raise DataError(
        f"data set {name} is missing: no data folder holds {name}/{names[0]}[.gz]: {_places(dirs)}; "
        f"{made}put {', '.join(names)} into the folder {name} of one of them, or name another data folder with "
        f"--data-dir or RLRECBENCH_DATA (source: {spec.source})"
    )


def commands_for(spec: DatasetSpec) -> str:
    """Return the commands that fetch a data set's original files and make it from them; "" where none can.

    The released files are taken where the raw ones have no address.
    """
    kinds: tuple[Kind, ...] = ("raw", "released")
    for kind in kinds:
        files = spec.sources.of(kind)
        if files and all(file.url for file in files):
            flag = " --released" if kind == "released" else ""
            return f"rlrecbench data download {spec.name}{flag} && rlrecbench data prepare {spec.name}{flag}"
    return ""


def source_names(spec: DatasetSpec) -> list[str]:
    """Names of the files that a data set is made of, without ``.gz``; the last one, items, may be absent."""
    parts = [".train.inter", ".valid.inter", ".test.inter"] if spec.protocol == "examples" else [".inter"]
    return [spec.name + ending for ending in [*parts, ".item"]]


def checksum(name: str, folder: Path) -> str:
    """Return the identity of a data set's content: the same for gzip and plain files.

    It is the sha256 over lines of the form that ``sha256sum`` prints, of the decompressed source files.

    Raises:
        DataError: A file is missing or broken.
    """
    lines = []
    for file in source_names(spec_of(name, [folder.parent])):
        if not file.endswith(".item") or find_file(folder / file):
            lines.append(f"{sha256(read_bytes(folder / file)).hexdigest()}  {file}\n")
    return sha256("".join(lines).encode()).hexdigest()


def _inside_recbole() -> Path:
    """Return the folder of ml-100k in the recbole package, which is found but not imported."""
    package = importlib.util.find_spec("recbole")
    if package is None or package.origin is None:
        raise DataError(
            "data set ml-100k is read from the recbole package, which is not installed; add it with "
            "'uv sync', or with 'pip install --no-deps recbole==1.2.1' where only its data are needed"
        )
    return Path(package.origin).parent / "dataset_example" / "ml-100k"


def _places(dirs: Sequence[Path]) -> str:
    return "looked in " + (", ".join(str(d) if d.is_dir() else f"{d} (no such folder)" for d in dirs) or "no folder")


@datasets.register("ml-100k", cite="harper2015movielens")
def ml_100k() -> DatasetSpec:
    """MovieLens 100K: films with titles, years and genres; inside the recbole package."""
    return DatasetSpec(
        "ml-100k",
        "ML-100K",
        published=_printed("users 943  items 1682  interactions 100000  min_length 20"),
        source="GroupLens, MovieLens 100K README; files of recbole 1.2.1",
        content="0c4467a208074381b746949dbf815fbf725cfe5f790efc9ed58e81eded22b33a",
        noun="movies",
    )


@datasets.register("beauty", cite="zhou2020s3")
def beauty() -> DatasetSpec:
    """Amazon Beauty, reviews up to 2014, 5-core: categories, generated text, LETTER's semantic ids."""
    return DatasetSpec(
        "beauty",
        "Beauty",
        published=_printed("""
            users 22363  items 12101  interactions 198502  sparsity 99.9266  repeats 0
            mean_length 8.88  min_length 5  max_length 204
            train_rows 131413  valid_rows 22363  test_rows 22363
            mean_train_history 6.70  p50_train_history 4  p75_train_history 9  p90_train_history 20
            mean_test_history 7.15  users_truncated_at_test 1019
            items_unseen 33  test_targets_unseen 138  test_targets_repeated 0
        """),
        source="S3-Rec, LETTER and IDGenRec on GitHub; data card; counts of the released files",
        content="54632de5777f86fdb53fe4578592511dfd03c8254661d7bafefbc83f5c64c5d0",
        noun="beauty products",
        sources=sources.BEAUTY,
    )


@datasets.register("yelp", cite="zhou2020s3")
def yelp() -> DatasetSpec:
    """Yelp reviews of 2019, 5-core: business names, categories, LETTER's semantic ids."""
    return DatasetSpec(
        "yelp",
        "Yelp",
        published=_printed("""
            users 30431  items 20033  interactions 316354  sparsity 99.9481  repeats 11830
            mean_length 10.40  min_length 5  max_length 350
            train_rows 225061  valid_rows 30431  test_rows 30431
            mean_train_history 8.05  p50_train_history 5  p75_train_history 13  p90_train_history 20
            mean_test_history 8.13  users_truncated_at_test 2398  distinct_titles 15340
            items_unseen 14  test_targets_unseen 73  test_targets_repeated 2027  test_targets_just_seen 672
        """),
        source="S3-Rec and LETTER on GitHub; data card; counts of the released files",
        content="fcf2725c6e65fbb8f74c645abc764d7c95e410f5aa16fd571e354bca9d763e2d",
        noun="places",
        sources=sources.YELP,
    )


@datasets.register("instruments", cite="zheng2024adapting")
def instruments() -> DatasetSpec:
    """Amazon Musical Instruments, reviews up to 2018, 5-core: interactions and LETTER's semantic ids only."""
    return DatasetSpec(
        "instruments",
        "Instruments",
        published=_printed("""
            users 24772  items 9922  interactions 206153  sparsity 99.9161  repeats 0
            mean_length 8.322  min_length 5  max_length 218
        """),
        source="LETTER on GitHub; data card (the 24773 and 9923 often quoted count a padding entry each)",
        content="9a4023a37b55d3451ecb96a1b4457f60d78eb94390eb6b2ca02b791b0adb0cb5",
        noun="musical instruments",
        sources=sources.INSTRUMENTS,
    )


@datasets.register("cds_and_vinyl", cite="gao2025process")
def cds_and_vinyl() -> DatasetSpec:
    """Amazon CDs and Vinyl, October 2015 to October 2018, 5-core: titles; Flower's split by time."""
    return _flower(
        "cds_and_vinyl",
        "CDs and Vinyl",
        """
            users 7685  items 5841  interactions 69249  sparsity 99.8457  repeats 1460
            mean_length 9.011  min_length 5  max_length 312
            train_rows 49251  valid_rows 6156  test_rows 6157
            mean_train_history 5.130  mean_test_history 6.179
            distinct_titles 5377  history_titles 5364  history_occurrences 252643
            items_unseen 4  valid_targets_unseen 20  test_targets_unseen 10  targets_in_history 1443
            test_titles_unseen_percent 0.36  test_titles_in_history_percent 3.09
        """,
        "e6b8937f1f43fe2858914889ea70e69b8ee103b5d9125f3bb4273eb063719c24",
        "music albums",
        sources.CDS_AND_VINYL,
    )


@datasets.register("video_games", cite="gao2025process")
def video_games() -> DatasetSpec:
    """Amazon Video Games, October 2015 to October 2018, 5-core: titles; Flower's split by time."""
    return _flower(
        "video_games",
        "Video Games",
        """
            users 9066  items 3858  interactions 70483  sparsity 99.7985  repeats 1556
            mean_length 7.774  min_length 5  max_length 97
            train_rows 49133  valid_rows 6142  test_rows 6142
            mean_train_history 4.431  mean_test_history 5.446
            distinct_titles 3806  history_titles 3751  history_occurrences 217723
            items_unseen 38  valid_targets_unseen 243  test_targets_unseen 390  targets_in_history 1552
            test_titles_unseen_percent 6.98  test_titles_in_history_percent 2.85
        """,
        "a6c0fddeca2c3c3c5d9094b8233e8da6ca1b8c7a7b797b4ce99a8cddf88e1227",
        "video games",
        sources.VIDEO_GAMES,
    )


@datasets.register("movies_and_tv", cite="gao2025process")
def movies_and_tv() -> DatasetSpec:
    """Amazon Movies and TV, October 2017 to October 2018, 5-core: titles; Flower's split by time."""
    return _flower(
        "movies_and_tv",
        "Movies and TV",
        """
            users 3663  items 2653  interactions 31085  sparsity 99.6801  repeats 794
            mean_length 8.486  min_length 5  max_length 582
            train_rows 21937  valid_rows 2742  test_rows 2743
            mean_train_history 4.840  mean_test_history 5.771
            distinct_titles 2599  history_titles 2571  history_occurrences 106178
            items_unseen 15  valid_targets_unseen 20  test_targets_unseen 105  targets_in_history 793
            test_titles_unseen_percent 4.81  test_titles_in_history_percent 1.86
        """,
        "70f59ffd35ff10a3abc4f5df16ea7c55c211a2d8bc18fc72a68dd4d88fb36918",
        "movies and TV shows",
        sources.MOVIES_AND_TV,
    )


def _flower(name: str, title: str, published: str, content: str, noun: str, files: Sources) -> DatasetSpec:
    source = "Mr-Peach0301/Flower on GitHub; data card; counts of the released files"
    return DatasetSpec(name, title, "examples", 10, _printed(published), source, content, noun, files)


def _printed(figures: str) -> Mapping[str, str]:
    """Read ``name value name value ...``."""
    words = figures.split()
    return dict(zip(words[::2], words[1::2], strict=True))
