"""Make a data set's folder from its original files, the papers' raw collections or the authors' processed files."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlrecbench import __version__
from rlrecbench.data import raw_items, raw_reviews
from rlrecbench.data.atomic_files import check_writable, publish, table
from rlrecbench.data.download import recorded_sha256
from rlrecbench.data.raw_items import About
from rlrecbench.data.raw_released import letter_index, letter_items, sequences_of
from rlrecbench.data.raw_reviews import Review, Reviews, collect
from rlrecbench.data.raw_sequences import SequenceSettings, sequences
from rlrecbench.data.raw_windows import Window, WindowSettings, split, window
from rlrecbench.data.sources import Kind, Source, Sources
from rlrecbench.errors import ConfigError, DataError
from rlrecbench.store import sha256_of

Say = Callable[[str], None]
Files = dict[str, bytes]
_INTER = ("user_id:token", "item_id:token", "timestamp:float")
_EXAMPLE = ("user_id:token", "item_id_list:token_seq", "item_id:token", "timestamp:float", "timestamp_slack_days:float")


@dataclass(frozen=True)
class SequencePlan:
    """A leave-one-out data set: how its reviews and metadata are read, and how sequences are cut."""

    reviews: Callable[[Path, bool], Iterable[Review]]
    about: Callable[[Path, set[str], bool], dict[str, About]]
    item_key: str  # name of the column with the collection's own item ids
    settings: SequenceSettings = field(default_factory=SequenceSettings)


# Sections of the reference "methods-semantic-ids": 1.1.
_SEQUENCES: Mapping[str, SequencePlan] = {
    "beauty": SequencePlan(raw_reviews.amazon_rated, raw_items.amazon_2014, "asin"),
    "yelp": SequencePlan(raw_reviews.yelp, raw_items.yelp, "business_id"),
    "instruments": SequencePlan(
        raw_reviews.amazon_ratings,
        raw_items.amazon_2018,
        "asin",
        SequenceSettings(first_of_repeats=True, needs_metadata=True),
    ),
}
# Sections of the reference "methods-titles": 1.3.
_WINDOWS: Mapping[str, WindowSettings] = {
    "cds_and_vinyl": WindowSettings(),
    "video_games": WindowSettings(),
    "movies_and_tv": WindowSettings(min_items=2000),
}


@dataclass(frozen=True)
class Job:
    """What to make from what.

    Attributes:
        name: The data set.
        sources: Its original files.
        kind: Which of them.
        out: The folder that gets the folder NAME.
        window: Replaces the settings of a data set that is split by time; None: the paper's.
        say: Gets one sentence for everything worth knowing.
        show: Draw a progress bar on stderr.
    """

    name: str
    sources: Sources
    kind: Kind
    out: Path
    window: WindowSettings | None = None
    say: Say = lambda _: None
    show: bool = False


def window_settings(name: str) -> WindowSettings | None:
    """Return the paper's settings of a data set that is split by time, None for another."""
    return _WINDOWS.get(name)


def make(job: Job, raw: Sequence[Path]) -> Path:
    """Make the data set's folder.

    Args:
        job: What to make.
        raw: Where to look for the original files: folders, or the file of interactions, which may have any name; the
            other files lie beside it.

    Returns:
        The folder NAME.

    Raises:
        ConfigError: There is no way known from such files to this data set.
        DataError: A file is missing, broken or not the expected one, or the folder cannot be written.
    """
    paths = [_find(source, n, raw, job) for n, source in enumerate(_wanted(job))]
    check_writable(job.name, job.out)
    origins = [_origin(path, source) for path, source in zip(paths, job.sources.of(job.kind), strict=True)]
    if job.kind == "released":
        files, settings = _from_released(job.name, paths), dict[str, Any]()
    elif job.name in _SEQUENCES:
        files, settings = _from_sequences(job, paths)
    else:
        files, settings = _from_window(job, paths)
    rows = {file: content.count(b"\n") - 1 for file, content in files.items() if not file.endswith(".json")}
    provenance = {
        "schema": 1,
        "name": job.name,
        "made_by": f"rlrecbench {__version__}",
        "kind": job.kind,
        "settings": settings,
        "raw": origins,
        "rows": rows,
    }
    folder = publish(job.name, job.out, files, provenance)
    job.say(f"{folder}: ready ({', '.join(f'{n:,} rows in {file}' for file, n in rows.items())})")
    return folder


def _wanted(job: Job) -> tuple[Source, ...]:
    known = job.sources.of(job.kind)
    if job.kind == "raw" and job.name not in (*_SEQUENCES, *_WINDOWS):
        names = ", ".join((*_SEQUENCES, *_WINDOWS))
        raise ConfigError(f"data set {job.name} is not made from raw files; these are: {names}")
    if not known:
        raise ConfigError(f"data set {job.name} has no {job.kind} files to be made from; leave --released out")
    return known


def _find(source: Source, n: int, raw: Sequence[Path], job: Job) -> Path:
    """Find one original file, packed or not."""
    plain = source.file.removesuffix(".gz")
    for place in raw:
        if place.is_file() and n == 0:
            return place
        folder = place.parent if place.is_file() else place
        for path in (folder / source.file, folder / plain, folder / f"{plain}.gz"):
            if path.is_file():
                return path
    flag = " --released" if job.kind == "released" else ""
    fix = job.sources.by_hand if not source.url else f"'rlrecbench data download {job.name}{flag}' fetches it"
    raise DataError(f"{source.file} is missing: looked in {', '.join(map(str, raw)) or 'no folder'}; {fix}")


def _origin(path: Path, source: Source) -> dict[str, Any]:
    """Describe an original file; one that is known must be as known."""
    try:
        digest = sha256_of(path)
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror or e}") from e
    expected = recorded_sha256(path)
    if path.name == source.file:
        expected = source.sha256 or expected
    if expected and digest != expected:
        raise DataError(f"{path}: sha256 {digest}, expected {expected}; it is not the original, download it again")
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest, "url": source.url}


def _collected(path: Path, found: Iterable[Review], say: Say) -> Reviews:
    began = time.perf_counter()
    reviews = collect(path, found)
    seconds = time.perf_counter() - began
    say(f"{path.name}: {len(reviews):,} reviews in {seconds:.1f} s ({len(reviews) / seconds:,.0f} a second)")
    return reviews


def _from_sequences(job: Job, paths: Sequence[Path]) -> tuple[Files, dict[str, Any]]:
    plan = _SEQUENCES[job.name]
    reviews = _collected(paths[0], plan.reviews(paths[0], job.show), job.say)
    about = plan.about(paths[1], set(reviews.items), job.show)
    made = sequences(reviews, plan.settings, set(about))
    if not len(made.user):
        raise DataError(f"{paths[0]}: no user and item with {plan.settings.k} interactions each is left")
    described = [about.get(item, About()) for item in made.items]
    columns = ("item_id:token", f"{plan.item_key}:token", *(f"{key}:token_seq" for key in About._fields))
    items = ((n, item, *texts) for n, (item, texts) in enumerate(zip(made.items, described, strict=True)))
    rows = zip(made.user.tolist(), made.item.tolist(), made.position.tolist(), strict=True)
    return {
        f"{job.name}.inter": table(_INTER, rows),
        f"{job.name}.item": table(columns, items),
        f"{job.name}.user": table(("user_id:token", "reviewer_id:token"), enumerate(made.users)),
    }, asdict(plan.settings)


def _from_window(job: Job, paths: Sequence[Path]) -> tuple[Files, dict[str, Any]]:
    settings = job.window or _WINDOWS[job.name]
    reviews = _collected(paths[0], raw_reviews.amazon(paths[0], job.show), job.say)
    made = window(reviews, raw_items.titles(paths[1], set(reviews.items), job.show), settings)
    return window_files(job.name, made, settings.history), {**asdict(settings), "year": made.year}


def window_files(name: str, made: Window, history: int) -> Files:
    """Make the files of a data set that is split by time.

    Args:
        name: The data set.
        made: Its interactions.
        history: The most items before a target.
    """
    user = [made.users[u] for u in made.user]
    item, when, position = made.item.tolist(), made.time.tolist(), made.position.tolist()

    def example(at: int) -> tuple[object, ...]:
        before = item[at - min(position[at], history) : at]
        return user[at], " ".join(map(str, before)), item[at], when[at], 0

    parts = split(made.user, made.time, made.position)
    slack = [0] * len(item)
    files = {f"{name}.{part}.inter": table(_EXAMPLE, map(example, at)) for part, at in parts._asdict().items()}
    files[f"{name}.inter"] = table(
        (*_INTER, "timestamp_slack_days:float", "position:float"), zip(user, item, when, slack, position, strict=True)
    )
    described = zip(range(len(made.items)), made.items, made.titles, strict=True)
    files[f"{name}.item"] = table(("item_id:token", "asin:token", "title:token_seq"), described)
    return files


def _from_released(name: str, paths: Sequence[Path]) -> Files:
    by_ending = {path.name.removesuffix(".gz").partition(".")[2]: path for path in paths}
    found = sequences_of(paths[0])
    rows = ((u, item, n) for u, items in found.items() for n, item in enumerate(items))
    files = {f"{name}.inter": table(_INTER, rows)}
    if "item.json" in by_ending:
        about = letter_items(by_ending["item.json"])
        texts = ((item, a.title, a.categories) for item, a in about.items())
        files[f"{name}.item"] = table(("item_id:token", "title:token_seq", "categories:token_seq"), texts)
    files[f"{name}.letter_index.json"] = letter_index(by_ending["index.json"])
    return files
