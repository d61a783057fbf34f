"""Sequences by hand: S3-Rec's (Beauty, Yelp) and LC-Rec's (Instruments). Sections: methods-semantic-ids, 1.1."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlrecbench.data.raw_items import About, amazon_2014, amazon_2018, sentence, titles, yelp
from rlrecbench.data.raw_reviews import Review, Reviews, collect
from rlrecbench.data.raw_sequences import SequenceSettings, sequences
from rlrecbench.errors import DataError

TWO = SequenceSettings(k=2)


def reviews(*rows: str) -> Reviews:
    """Each row is ``user item time``."""
    parts = [row.split() for row in rows]
    return collect(Path("raw"), [Review(n, u, i, int(t)) for n, (u, i, t) in enumerate(parts, 1)])


def told(found: Reviews, settings: SequenceSettings, described: set[str] | None = None) -> dict[str, str]:
    """Each user's items, by the collection's ids."""
    made = sequences(found, settings, described or set())
    out: dict[str, list[str]] = {user: [] for user in made.users}
    for user, item in zip(made.user, made.item, strict=True):
        out[made.users[user]].append(made.items[item])
    return {user: " ".join(items) for user, items in out.items()}


def test_times_order_and_equal_times_keep_the_order_of_the_file() -> None:
    found = reviews("u b 5", "v a 1", "u a 5", "v b 1", "u c 4", "v c 0", "u b 5")
    assert told(found, TWO) == {"u": "c b a b", "v": "c a b"}


def test_users_are_numbered_by_a_first_review_that_is_dropped_later() -> None:
    # Item x has one review and goes; u still comes before v, although v's first review that stays comes earlier.
    found = reviews("u x 9", "v a 1", "v b 2", "u b 3", "u a 4")
    made = sequences(found, TWO, set())
    assert made.users == ["u", "v"]
    assert made.items == ["b", "a"]  # numbered along u's sequence, then v's
    assert (made.user.tolist(), made.item.tolist()) == ([0, 0, 1, 1], [0, 1, 1, 0])
    assert made.position.tolist() == [0, 1, 0, 1]


def test_repeats_stay_and_count_in_s3_rec() -> None:
    assert told(reviews("u a 1", "u a 2", "v a 3", "v a 3"), TWO) == {"u": "a a", "v": "a a"}


def test_lc_rec_keeps_the_first_of_repeats_before_it_counts() -> None:
    rows = ("u a 3", "u a 1", "u b 2", "v a 1", "v a 2", "w b 1", "w a 2")
    once = SequenceSettings(k=2, first_of_repeats=True)
    # v has two reviews of one item: one is left of them, too few; without the rule v would stay.
    assert told(reviews(*rows), once) == {"u": "a b", "w": "b a"}
    assert told(reviews(*rows), TWO) == {"u": "a b a", "v": "a a", "w": "b a"}


def test_lc_rec_drops_items_without_metadata_before_it_counts() -> None:
    rows = ("u a 1", "u b 2", "u c 3", "v a 1", "v b 2", "w b 1", "w c 2")
    plan = SequenceSettings(k=2, needs_metadata=True)
    assert told(reviews(*rows), plan, {"a", "b"}) == {"u": "a b", "v": "a b"}
    assert told(reviews(*rows), TWO) == {"u": "a b c", "v": "a b", "w": "b c"}


def test_nothing_may_be_left() -> None:
    assert told(reviews("u a 1", "v b 2"), TWO) == {}


def test_beautys_metadata_are_python_lines_and_lose_the_root_category(tmp_path: Path) -> None:
    file = tmp_path / "meta.json"
    file.write_text(
        "{'asin': 'B1', 'title': ' Red ', 'brand': 'X', 'categories': [['Beauty', 'Nails', 'Polish'], "
        "['Beauty', 'Nails']], 'description': 'For nails.'}\n"
        "{'asin': 'B2', 'categories': [['Beauty']]}\n"
        "{'asin': 'B3', 'title': 'not asked for'}\n"
    )
    assert amazon_2014(file, {"B1", "B2"}) == {"B1": About("Red", "X", "Nails, Polish", "For nails."), "B2": About()}


def test_yelps_name_is_the_title_and_missing_categories_are_none(tmp_path: Path) -> None:
    file = tmp_path / "business.json"
    file.write_text(
        '{"business_id": "b1", "name": "Sal\'s ", "categories": "Pizza, Food ,Italian"}\n'
        '{"business_id": "b2", "name": "Nowhere", "categories": null}\n'
    )
    assert yelp(file, {"b1", "b2"}) == {
        "b1": About("Sal's", categories="Pizza, Food, Italian"),
        "b2": About("Nowhere"),
    }


def test_lc_recs_texts_end_with_one_full_stop_and_categories_before_markup(tmp_path: Path) -> None:
    file = tmp_path / "meta.json"
    file.write_text(
        '{"asin": "B1", "title": "Say &quot;Hi&quot; <b>now</b>...", "brand": "by\\nFender ", "description": '
        '["One.", " two"], "category": ["Musical Instruments", "Guitars ", "<span></span></span>", "Late"]}\n'
        '{"asin": "B2"}\n'
    )
    assert amazon_2018(file, {"B1", "B2"}) == {
        "B1": About("Say Hi now.", "Fender", "Musical Instruments,Guitars", "One. two."),
        "B2": About(),
    }
    assert (sentence("x" * 1998), sentence("x" * 1999)) == ("x" * 1998 + ".", "")


@pytest.mark.parametrize(
    ("read", "wrong", "message"),
    [
        (
            amazon_2014,
            {"categories": [["B", None]]},
            "categories must be a list of lists of texts, found [['B', None]]",
        ),
        (amazon_2014, {"categories": ["B"]}, "categories must be a list of lists of texts"),
        (amazon_2014, {"categories": 5}, "categories must be a list of lists of texts, found 5"),
        (amazon_2014, {"title": 5}, "title must be a text, found 5"),
        (amazon_2018, {"category": [1]}, "category must be a list of texts, found [1]"),
        (amazon_2018, {"category": "Guitars"}, "category must be a list of texts, found 'Guitars'"),
        (amazon_2018, {"title": 5}, "title must be a text or a list of texts, found 5"),
        (amazon_2018, {"description": {"a": 1}}, "description must be a text or a list of texts, found {'a': 1}"),
        (amazon_2018, {"description": ["a", None]}, "description must be a text or a list of texts"),
        (amazon_2018, {"brand": ["Fender"]}, "brand must be a text"),
        (titles, {"title": ["Pong"]}, "title must be a text, found ['Pong']"),
        (yelp, {"categories": ["Pizza"]}, "categories must be a text, found ['Pizza']"),
        (yelp, {"name": 5}, "name must be a text, found 5"),
    ],
)
def test_metadata_of_another_form_are_named(
    read: Callable[[Path, set[str]], object], wrong: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "meta.json"
    good = {"asin": "B1", "business_id": "B1"}
    file.write_text("".join(json.dumps(row) + "\n" for row in (good, good | wrong)))
    with pytest.raises(DataError) as caught:
        read(file, {"B1"})
    assert f"{file}, line 2: {message}" in str(caught.value)


@pytest.mark.parametrize("read", [amazon_2014, amazon_2018, yelp])
def test_metadata_that_are_null_or_empty_are_none(
    read: Callable[[Path, set[str]], dict[str, About]], tmp_path: Path
) -> None:
    keys = ("title", "name", "brand", "category", "categories", "description")
    empty: tuple[object, ...] = (None, "", [])
    file = tmp_path / "meta.json"
    file.write_text(
        "".join(json.dumps({"asin": "B", "business_id": "B"} | dict.fromkeys(keys, v)) + "\n" for v in empty)
    )
    assert read(file, {"B"}) == {"B": About()}
