"""Where a data set's original files come from.

``raw`` are the collections that the papers started from; ``released`` are the authors' own processed files, which
fix every choice that the raw files leave open. A sha256 stands here only where the data cards record one that was
computed from the file itself; for the others :mod:`rlrecbench.data.download` remembers the first download.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["raw", "released"]


@dataclass(frozen=True)
class Source:
    """One original file.

    Attributes:
        file: Its name in the raw folder.
        url: Its address; "" where there is none to download from.
        size: Length in bytes; None where it is not known.
        sha256: Of the file as served; "" where it is not known.
    """

    file: str
    url: str = ""
    size: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Sources:
    """The original files of a data set, the file of interactions first.

    Attributes:
        raw: What the papers started from.
        released: What the authors published.
        by_hand: How to get raw files that have no address, in one sentence.
    """

    raw: tuple[Source, ...] = ()
    released: tuple[Source, ...] = ()
    by_hand: str = ""

    def of(self, kind: Kind) -> tuple[Source, ...]:
        """Return the files of one kind."""
        return self.raw if kind == "raw" else self.released


def amazon_2014(category: str) -> tuple[Source, ...]:
    """Reviews (5-core) and metadata of one category of the 2014 collection; one record per line."""
    base = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
    return tuple(Source(file, base + file) for file in (f"reviews_{category}_5.json.gz", f"meta_{category}.json.gz"))


def amazon_2018(category: str, ratings_only: bool = False) -> tuple[Source, ...]:
    """Reviews (all, not the 5-core) and metadata of one category of the 2018 collection.

    Args:
        category: The name in the collection, such as "Video_Games".
        ratings_only: Take item, user, rating and time as CSV, without the texts. Source: LC-Rec.

    Returns:
        Files at the collection's present address. Source: Flower's README names the same folders on
        datarepo.eng.ucsd.edu, which no longer answers.
    """
    base = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/"
    reviews = f"categoryFilesSmall/{category}.csv" if ratings_only else f"categoryFiles/{category}.json.gz"
    paths = (reviews, f"metaFiles2/meta_{category}.json.gz")
    return tuple(Source(path.rpartition("/")[2], base + path) for path in paths)


def letter(path: str, size: int, sha256: str) -> Source:
    """One file of HonghuiBao2000/LETTER. Source: data cards."""
    commit = "8d0154e28de37dbb6e24871c508ad8ddb1921cda"
    return _github("HonghuiBao2000/LETTER", commit, path, size, sha256)


def s3_rec(path: str, size: int, sha256: str) -> Source:
    """One file of aHuiWang/CIKM2020-S3Rec. Source: data cards."""
    commit = "49a890dcb516c9ed3126564495234ea74d5cd566"
    return _github("aHuiWang/CIKM2020-S3Rec", commit, path, size, sha256)


def _github(repository: str, commit: str, path: str, size: int, sha256: str) -> Source:
    url = f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"
    return Source(path.rpartition("/")[2], url, size, sha256)


BEAUTY = Sources(
    raw=amazon_2014("Beauty"),
    released=(
        letter(
            "data/Beauty/Beauty.inter.json",
            3212008,
            "8809584b8b78fa6561771c88911ed65bd716fc9926fca1e581e6a1ab578ccfd5",
        ),
        letter(
            "data/Beauty/Beauty.index.json", 634238, "be3fb890e59b5443824cdebc560ef349191b97f20d3aecad4727de2d6b212c82"
        ),
    ),
)

YELP = Sources(
    raw=(Source("yelp_academic_dataset_review.json"), Source("yelp_academic_dataset_business.json")),
    released=(
        s3_rec("data/Yelp.txt", 1814224, "724b219106b81dd2349027da997334ddb6da9fe2f152ad6e0d97a93170f7caed"),
        letter("data/Yelp/Yelp.item.json", 2673394, "8f58a9d54111fc10ccd675f99e6f2afe988cd0ee70b40f1e37d04f9aea764c2d"),
        letter(
            "data/Yelp/Yelp.index.json", 1054584, "7468278b33ae2174c0d230d5e49d0c93e1dedd9cdc8c5f58c983574c14a62b2b"
        ),
    ),
    by_hand=(
        "Yelp gives its Open Dataset only to those who accept its terms: get it at "
        "https://business.yelp.com/data/resources/open-dataset/, unpack yelp_academic_dataset_review.json and "
        "yelp_academic_dataset_business.json into one folder and run 'rlrecbench data prepare yelp --raw FOLDER'"
    ),
)

INSTRUMENTS = Sources(
    raw=amazon_2018("Musical_Instruments", ratings_only=True),
    released=(
        letter(
            "data/Instruments/Instruments.inter.json",
            3312848,
            "0a11d47791d90483005da93c36d826679e20e4592d1d2b86518d5f56f218e743",
        ),
        letter(
            "data/Instruments/Instruments.index.json",
            518041,
            "33c87e28c52ae367985bdf494cb49d676d181e13a39497b4ad035f46111546dd",
        ),
    ),
)

CDS_AND_VINYL = Sources(raw=amazon_2018("CDs_and_Vinyl"))
VIDEO_GAMES = Sources(raw=amazon_2018("Video_Games"))
MOVIES_AND_TV = Sources(raw=amazon_2018("Movies_and_TV"))
