"""Why a value of ours and a published one do not compare, found from our own record.

Sources for what the papers did: GFlowGR section 4.1 and the training script of LETTER, on whose code it builds; Flower
section 4.1 and its public code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rlrecbench.data.datasets import datasets
from rlrecbench.data.prepare import DataOptions
from rlrecbench.published.facts import Fact
from rlrecbench.published.matching import Match, Reason, entry_of, name_of, start_of
from rlrecbench.results import NO_BACKBONE, Json, Record, Results

_MODEL = "Qwen2.5-1.5B-Instruct"  # Flower 4.1.4
_BEAMS = {"flower": (10, "the paper's code"), "gflowgr": (20, "LETTER's script")}
# Epochs at most, and whose. Flower 4.1.4; LETTER's script, as GFlowGR gives none.
_EPOCHS = {
    **dict.fromkeys((("flower", "sft"), ("flower", "flower"), ("flower", "ifairlrs")), (7, "the paper")),
    **dict.fromkeys(
        (("gflowgr", "sft"), ("gflowgr", "gflowgr-tb"), ("gflowgr", "gflowgr-db")), (200, "LETTER's script")
    ),
}
_PPO_PROMPTS = 1024  # Flower's script
_SHARES = {"sprec": 0.2}  # of the published recipe
_FEATURES = {"tiger": "TIGER's from Sentence-T5", "letter": "LETTER's from LLaMA-7B"}
_KINDS = {"tiger": ("rqvae",), "letter": ("letter", "released")}
_TOP_ONE = ("dgu", "mgu", "entropy", "ttr")


def reasons(results: Results, records: Sequence[Record], found: Match, fact: Fact, metric: str) -> list[Reason]:
    """Say why a row's value and a published one do not compare; empty where nothing is known that forbids it.

    Args:
        results: The folder of the records.
        records: The row's, at least one.
        found: What they stand for.
        fact: A value of that row.
        metric: Our metric's full name.
    """
    record = records[0]
    out = [*_backbone(record, fact), *_budget(results, record, found, fact), *found.remarks, *_data(results, record)]
    out += [*_lists(results, record, fact), *_metric(record, fact, metric)]
    if fact.paper == "gflowgr":
        out.append(Reason("unstated", "The paper gives no training budget and no collaborative model."))
    if len(records) == 1:
        out.append(Reason("seed", "One seed."))
    return out


def _backbone(record: Record, fact: Fact) -> Iterator[Reason]:
    about = record.provenance.get("backbone") or {}
    if "model" in about:
        model = str(about["model"]).partition("@")[0].rpartition("/")[2]
        if model != _MODEL:
            yield Reason("model", f"The model is {model}; the paper's is {_MODEL}.")
        if about.get("lora"):
            yield Reason("adapter", "Trains an adapter; the paper trains all weights.")
    if about.get("preset", "paper") != "paper":
        yield Reason("size", f"The T5 is {about['preset']}; TIGER's has 4 + 4 layers of width 128.")
    ids = record.provenance.get("identifiers") or {}
    if fact.backbone not in _KINDS or "kind" not in ids:
        return
    if ids["kind"] not in _KINDS[fact.backbone]:
        yield Reason("codes", f"Codes by {ids['kind']}; {fact.backbone.upper()}'s by {_KINDS[fact.backbone][0]}.")
    if ids["kind"] == "released":
        yield Reason("codes", "LETTER's released codes; those of the paper are not public.")
    elif ids.get("features") == "tfidf-svd":
        yield Reason("features", f"Codes from TF-IDF vectors; {_FEATURES[fact.backbone]}.")


def _budget(results: Results, record: Record, found: Match, fact: Fact) -> Iterator[Reason]:
    """Compare the training that ends with the record, and the one before it where the suite has that as a row."""
    entry = entry_of(results.suite, "methods", record.method) or {}
    start = start_of(entry, found.variant)
    before = next((r for r in results.records if _cell(r) == (record.dataset, record.backbone, start)), None)
    trainer = str(record.provenance.get("method"))
    if trainer in ("temp", "d3"):
        trainer = name_of(results.suite, "methods", start)
    yield from _spent(fact.paper, trainer, record.provenance.get("budget") or {}, "")
    if before is not None and before.provenance.get("method") != trainer:
        name = str(before.provenance.get("method"))
        yield from _spent(fact.paper, name, before.provenance.get("budget") or {}, f"Its start {name}: ")


def _cell(record: Record) -> tuple[str, str, str]:
    return record.dataset, record.backbone, record.method


def _spent(paper: str, method: str, budget: Json, begin: str) -> Iterator[Reason]:
    if not budget:
        return
    epochs, whose = _EPOCHS.get((paper, method), (0, ""))
    if budget["epochs"] < epochs:
        few = f"{budget['epochs']} epoch{'s' if budget['epochs'] > 1 else ''} at most"
        yield Reason("epochs", f"{begin}{few}; {whose} has {epochs}.")
    share = budget.get("epoch_share") or 1.0
    if share < _SHARES.get(method, 1.0):
        yield Reason("share", f"{begin}{100 * share:g} % of the training pairs in an epoch.")
    if budget.get("max_steps"):
        yield Reason("steps", f"{begin}{budget['max_steps']:,} steps at most.")
    most, ppo = budget.get("max_examples"), (paper, method) == ("flower", "ppo")
    if most and not (ppo and most == _PPO_PROMPTS):
        yield Reason("examples", f"{begin}{most:,} training examples at most.")
    elif ppo and not most:
        yield Reason("examples", f"{begin}PPO sees more prompts than the public script's {_PPO_PROMPTS:,}.")


def _data(results: Results, record: Record) -> Iterator[Reason]:
    protocol = record.provenance.get("protocol", {})
    spec = datasets[name_of(results.suite, "datasets", record.dataset)]()
    if "checksum" in protocol and protocol["checksum"] != spec.content:
        yield Reason("files", "The files are not the released ones.")
    usual = asdict(DataOptions(max_history=spec.max_history))
    cut = {k: v for k, v in protocol.get("options", {}).items() if v != usual.get(k)}
    if cut:
        yield Reason("cut", f"The data are cut otherwise: {', '.join(f'{k} {v}' for k, v in cut.items())}.")
    if protocol.get("limit_users"):
        yield Reason("users", f"Only the first {protocol['limit_users']:,} test users.")


def _lists(results: Results, record: Record, fact: Fact) -> Iterator[Reason]:
    """Compare how lists are made."""
    if record.backbone == NO_BACKBONE:
        if fact.method == "sasrec" and results.suite.get("collab", {}).get("loss", "ce") != "bce":
            yield Reason("loss", "SASRec's loss is a softmax; the paper's is binary cross-entropy.")
        return
    beams = record.provenance.get("protocol", {}).get("beams")
    usual, whose = _BEAMS[fact.paper]
    if beams is not None and beams != usual:
        yield Reason("beams", f"Searched with {beams} beams; {whose} with {usual}.")
    penalty = results.suite.get("rank", {}).get("length_penalty", 0.0)
    if fact.paper == "flower" and fact.method != "d3" and penalty != 1:
        yield Reason("penalty", f"Length penalty {penalty:g}; the paper's lists have 1.")


def _metric(record: Record, fact: Fact, metric: str) -> Iterator[Reason]:
    name = metric.partition("@")[0]
    if fact.method == "sasrec":
        if name in _TOP_ONE:
            yield Reason("top-1", "The paper's code counts SASRec's first item only.")
        if metric.endswith("-string"):
            yield Reason("credit", "Counts equal titles; the paper's SASRec counts items.")
    elif name in ("recall", "hr", "ndcg") and not metric.endswith("-string") and _shares_codes(record):
        yield Reason("credit", "Counts the one item; the papers count any of equal string.")
    if name in ("dgu", "mgu") and not metric.endswith("-compat") and fact.method != "sasrec":
        yield Reason("groups", "The public code resets group 7's count at unseen titles.")


def _shares_codes(record: Record) -> bool:
    """Tell whether items may be the same string: titles are not unique, codes are with a collision code."""
    ids = record.provenance.get("identifiers") or {}
    return not (ids.get("dedup") and ids.get("kind") != "released")
