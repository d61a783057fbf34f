"""The only training loop.

It runs on accelerate's ``Accelerator`` (device, autocast, gradient synchronisation, clipping). What is drawn
for a batch is drawn for the whole batch before it is cut into micro-batches, and a loss is a mean over
prompts, so 1 x N and N x 1 micro-batches give the same gradient. So do N processes: each has all of the batch's
draws and learns from its share of the prompts. The first process alone writes.
"""

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast, gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from rlrecbench import checkpoint
from rlrecbench.collab import Collab
from rlrecbench.data.frame import Dataset, Examples, Part
from rlrecbench.device import device_of
from rlrecbench.errors import BenchError
from rlrecbench.method import Draw, Drawn, FineTune, Prompts, Ranker, RankJob, Step
from rlrecbench.policy.base import Policy, put, trained
from rlrecbench.policy.score import score
from rlrecbench.policy.search import exact
from rlrecbench.seeds import generator, stream
from rlrecbench.store import Report, silent
from rlrecbench.train.budget import Budget, by_length, epoch_batches
from rlrecbench.train.pool import Pool, fill
from rlrecbench.train.tracking import Trackers, Tracking

Rows = NDArray[np.int64]
_LOG_EVERY = 50
_SELECT_K = 10


@dataclass
class Progress:
    """Where training stands, apart from tensors. Random streams are named by step, so none is kept."""

    step: int = 0  # batches done
    examples: int = 0  # training pairs seen
    best: float = -1.0  # best value on validation: ndcg@10, or without histories the mean log-probability
    best_step: int = 0
    stale: int = 0  # evaluations since the best
    seconds: float = 0.0  # spent training, over all tries
    log_bytes: int = 0  # length of train.jsonl at this point
    stopped: bool = False  # patience ran out
    evaluations: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainJob:
    """Everything that one training run needs.

    Attributes:
        data: The data set.
        policy: The backbone where training starts.
        method: The method with its settings.
        budget: What may be spent.
        seed: Root of all random streams.
        folder: Where checkpoints and ``train.jsonl`` are kept; training resumes from what is there.
        collab: Collaborative scores, if the method needs them.
        text: Unit vectors of the items' texts, if the method needs them, [N, E].
        beams: Width of the search on the validation part.
        length_penalty: Of that search.
        device: "auto", "cpu" or "cuda".
        micro_batch: Prompts per forward pass; None: the whole batch.
        checkpoint_minutes: Minutes between checkpoints; evaluations are followed by one in any case.
        rank_batch: Prompts per batch of the search.
        tracking: Where else the lines of ``train.jsonl`` go; None: nowhere.
    """

    data: Dataset
    policy: Policy
    method: FineTune
    budget: Budget
    seed: int
    folder: Path
    collab: Collab | None = None
    text: Tensor | None = None
    beams: int = 20
    length_penalty: float = 0.0
    device: str = "auto"
    micro_batch: int | None = None
    checkpoint_minutes: float = 5.0
    rank_batch: int = 128
    tracking: Tracking | None = None


class Outcome(NamedTuple):
    """What training gives: the selected weights and what they cost."""

    weights: dict[str, Tensor]
    steps: int
    examples: int
    seconds: float
    best: float
    best_step: int
    stopped_early: bool


class Batch(NamedTuple):
    """One (micro-)batch as the learner's forward takes it."""

    drawn: Drawn
    prompts: Prompts
    kept: dict[str, Tensor]
    epoch: int
    progress: float
    log: dict[str, float] | None


class Learner(nn.Module):
    """Backbone, heads and loss as one module, so that a data-parallel wrapper sees one forward."""

    def __init__(self, policy: Policy, method: FineTune, reference: Policy | None) -> None:
        super().__init__()
        self.policy = policy
        self.method = method
        made = method.heads(policy.width)
        self.heads = nn.ModuleDict({name: head.module for name, head in made.items()})
        self.head_settings = {name: (head.lr, head.decay) for name, head in made.items()}
        self.__dict__["reference"] = reference  # not a submodule: neither saved nor trained

    def step(self, batch: Batch) -> Step:
        """Build what the method's loss sees."""
        prompts, kept = batch.prompts, batch.kept
        return Step(
            batch.drawn,
            prompts,
            self.policy,
            self.method.measure,
            self.heads,  # type: ignore[arg-type]  # a ModuleDict is a mapping in all but name
            batch.epoch,
            batch.progress,
            (lambda: kept["ref_tokens"]) if "ref_tokens" in kept else self._live_reference(batch),
            kept.get("old_tokens"),
            batch.log,
        )

    def _live_reference(self, batch: Batch) -> Any:
        reference = self.__dict__["reference"]
        if reference is None:
            return None
        return lambda: tokens_of(reference, self.method, batch.prompts, batch.drawn)

    def forward(self, batch: Batch) -> Tensor:
        """Return the method's loss."""
        step = self.step(batch)
        loss: Tensor = self.method.loss(step)
        if batch.log is not None:
            diagnose(step)
        return loss


def tokens_of(policy: Policy, method: FineTune, prompts: Prompts, drawn: Drawn) -> Tensor:
    """Token log-probabilities of candidates in the method's measure, without gradient: [B, C, L]."""
    with torch.no_grad():
        scores = score(policy, policy.encode(prompts.history), drawn.items, drawn.paths)
        return scores.trie if method.measure == "trie" else scores.vocab


def diagnose(step: Step) -> None:
    """Log what can be said of any method: legal mass, entropy, rewards and distance from the reference.

    ``legal_mass`` is the probability that the vocabulary measure gives to the legal tokens along the candidates'
    paths, and ``entropy`` the sum of the next-token entropies along them (nats, trie measure), each a mean over
    the candidates. ``kl_reference`` is the k3 estimate over the candidates, the Kullback-Leibler divergence only
    where these are the policy's own samples (Schulman, 2020).
    """
    with torch.no_grad():
        there = step.present
        legal, entropy = step.tokens.legal.sum(-1).exp(), step.tokens.entropy().sum(-1)
        step.log(legal_mass=legal[there].mean(), entropy=entropy[there].mean())
        if step.rewards is not None:
            step.log(reward_mean=step.rewards[there].mean(), reward_std=step.rewards[there].std(correction=0))
        if "ref_tokens" in step.__dict__:
            ratio = -step.gain[there]
            step.log(kl_reference=(ratio.exp() - ratio - 1).mean())


def draw_batch(learner: Learner, draw: Draw, begin: bool = False) -> tuple[Drawn, dict[str, Tensor]]:
    """Draw candidates for a batch, and what has to be computed at this moment, without gradient.

    Args:
        learner: The policy with its heads and reference, in evaluation mode.
        draw: The batch.
        begin: Initialise the heads from this batch before anything is computed with them.

    Returns:
        The draw with what :meth:`FineTune.prepare` adds to it, and token log-probabilities by name.
    """
    method = learner.method
    with torch.no_grad():
        drawn = method.candidates(draw)
        drawn = drawn if isinstance(drawn, Drawn) else Drawn(drawn)
        step = learner.step(Batch(drawn, draw.prompts, {}, draw.epoch, draw.progress, None))
        if "encoded" in draw.__dict__:
            step.__dict__["encoded"] = draw.encoded
        if begin:
            method.begin(step)
        kept = {}
        if method.updates > 1:
            kept["old_tokens"] = step.logp_tokens
        if method.reference_lasts or (method.reference is not None and method.updates > 1):
            kept["ref_tokens"] = step.ref_tokens
        extra = method.prepare(step)
    return replace(drawn, extra={**drawn.extra, **extra}) if extra else drawn, kept


def prompts_of(examples: Examples, part: Part, rows: Rows, device: torch.device) -> Prompts:
    """Move some rows' histories to a device."""
    history = torch.as_tensor(examples.padded(rows), device=device)
    return Prompts(part, torch.as_tensor(rows, device=device), history)


def ranks(ranker: Ranker, jobs: Iterable[RankJob], targets: Tensor) -> Tensor:
    """Rank of each target (1-based, 0 where absent); jobs name the rows of ``targets`` they rank."""
    out = torch.zeros_like(targets)
    for job in jobs:
        found = ranker.rank(job).items.to(targets.device) == targets[job.prompts.rows][:, None]
        out[job.prompts.rows] = torch.where(found.any(1), found.int().argmax(1) + 1, 0)
    return out


def train(job: TrainJob, report: Report = silent) -> Outcome:
    """Train, or go on with training, until the budget or the patience is spent."""
    return _Run(job, report).run()


class _Run:
    """The state of one training run."""

    def __init__(self, job: TrainJob, report: Report) -> None:
        self.job, self.report = job, report
        self.method, self.budget, self.examples = job.method, job.budget, job.data.train
        AcceleratorState._reset_state()  # one per process otherwise, with the first training's precision
        cpu = device_of(job.device).type == "cpu"
        self.accelerator = Accelerator(
            cpu=cpu,
            mixed_precision="bf16" if self._bfloat16(cpu) else "no",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.log_path = job.folder / "train.jsonl"
        self.device, self.first = self.accelerator.device, self.accelerator.is_main_process
        self.index, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(stream(job.seed, "heads"))
        job.policy.to(self.device)
        reference = None
        if self.method.reference is not None:
            reference = job.policy.frozen()
        learner = Learner(job.policy, self.method, reference).to(self.device)
        optimizer = torch.optim.AdamW(self._groups(learner), lr=self.budget.lr, fused=True)
        self.learner, self.optimizer = self.accelerator.prepare(learner, optimizer)
        self.bare: Learner = self.accelerator.unwrap_model(self.learner)
        self.total = self.budget.total_steps(len(self.examples))
        self.per_epoch = self.budget.steps_per_epoch(len(self.examples))
        self.collab = job.collab.to(self.device) if job.collab is not None else None
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        self.reference_epoch = 0  # the reference made at the start is that of epoch 0
        self.popularity = torch.as_tensor(job.data.popularity, device=self.device)
        self.frequency = torch.as_tensor(job.data.frequency, device=self.device)
        self.text = job.text.to(self.device) if job.text is not None else None
        self.fitted = self.method.fit(job.data)
        self.select = "logp" if job.data.protocol == "distribution" else f"ndcg@{_SELECT_K}"
        self.trackers = Trackers(job.tracking if self.first else None)
        self.pool: Pool | None = None
        self.pool_epoch = -1
        self.log: list[tuple[float, dict[str, float]]] = []
        with self.accelerator.main_process_first():  # it puts right what a kill has left half done
            self.state, self.best = self._resume()
        self.accelerator.wait_for_everyone()
        self.saved_at = time.perf_counter()

    def run(self) -> Outcome:
        """Train to the end."""
        try:
            return self._run()
        finally:
            self.trackers.close()

    def _run(self) -> Outcome:
        job, state = self.job, self.state
        if self.first:
            self._open_log()
        started = time.perf_counter()
        before = state.seconds
        batches: list[Rows] = []
        epoch_of_batches = -1
        while True:
            if self._evaluation_due():
                self._save()
                self._evaluate()
                self._save()
            if state.step == self.total or state.stopped:
                break
            epoch, at = divmod(state.step, self.per_epoch)
            if epoch != epoch_of_batches:
                batches = self._batches(epoch)
                epoch_of_batches = epoch
            self._refresh(epoch)
            rows = batches[at]
            if self.budget.max_examples is not None:
                rows = rows[: max(1, self.budget.max_examples - state.examples)]
            self._train_on(rows, epoch)
            state.step += 1
            state.examples += len(rows)
            state.seconds = before + time.perf_counter() - started
            if time.perf_counter() - self.saved_at > 60 * job.checkpoint_minutes:
                self._save()
            best = f", best {self.select} {state.best:.4f}" if state.evaluations else ""
            self._tell(f"epoch {epoch + 1}{best}")
        if self.first:
            self.log_file.close()
        return Outcome(self.best, state.step, state.examples, state.seconds, state.best, state.best_step, state.stopped)

    def _evaluation_due(self) -> bool:
        """Tell whether the model as it is now must be evaluated; a resumed run may find that it still must."""
        step = self.state.step
        if step == 0 or (self.state.evaluations and self.state.evaluations[-1][0] == step):
            return False
        epochs, rest = divmod(step, self.per_epoch)
        return step == self.total or (rest == 0 and epochs % self.budget.eval_every == 0)

    def _tell(self, note: str) -> None:
        """Report progress; when the run is being stopped, the report raises and the state is saved first."""
        try:
            self.report(self.state.step, self.total, note)
        except BaseException:
            self._save()
            raise

    def _bfloat16(self, cpu: bool) -> bool:
        choice = self.budget.precision
        if choice == "auto":
            return not cpu and torch.cuda.is_bf16_supported()
        return choice == "bfloat16"

    def _groups(self, learner: Learner) -> list[dict[str, Any]]:
        """AdamW's parameter groups; ``scale`` is the group's learning rate as a multiple of the schedule's."""
        named = [(n, p) for n, p in learner.policy.named_parameters() if p.requires_grad]
        decay = [p for n, p in named if p.ndim > 1]
        rest = [p for n, p in named if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decay, "weight_decay": self.budget.weight_decay, "scale": 1.0},
            {"params": rest, "weight_decay": 0.0, "scale": 1.0},
        ]
        for name, (lr, weight_decay) in learner.head_settings.items():
            params = list(learner.heads[name].parameters())
            groups.append({"params": params, "weight_decay": weight_decay, "scale": lr})
        return [g for g in groups if g["params"]]

    def _batches(self, epoch: int) -> list[Rows]:
        """Cut the rows of one epoch into batches; epochs that share a draw visit the same rows."""
        period = self.method.redraw
        subset = 0 if period is None else epoch // max(period, 1)
        return epoch_batches(self.examples, self.budget, self.job.seed, epoch, subset)

    # --- drawing -----------------------------------------------------------------------------------------

    def _draw(self, rows: Rows, epoch: int, progress: float, *name: str | int) -> tuple[Drawn, dict[str, Tensor]]:
        """Draw candidates for a batch, and the log-probabilities that must be those of this moment."""
        draw = Draw(
            prompts_of(self.examples, "train", rows, self.device),
            torch.as_tensor(self.examples.target[rows], device=self.device),
            self.bare.policy,
            generator(self.job.seed, "draw", *name, device=self.device),
            self.popularity,
            progress,
            epoch,
            self.collab,
            self.frequency,
            self.text,
            self.fitted,
        )
        begin = self.state.step == 0 and self.method.redraw == 0
        self.bare.eval()
        with self.accelerator.autocast():
            drawn = draw_batch(self.bare, draw, begin)
        if begin:
            self._share_heads()
        return drawn

    def _share_heads(self) -> None:
        """Give all processes the first one's heads, which each has just initialised: on GPUs sums may differ."""
        for p in self.bare.heads.parameters():
            broadcast(p.data)

    def _refresh(self, epoch: int) -> None:
        """Renew the reference and the pool where they are due."""
        folder, every = self.job.folder, self.method.reference
        if isinstance(every, int) and self.reference_epoch != (begin := epoch // every * every):
            self._renew_reference(folder / f"reference-{begin}.safetensors")
            self.reference_epoch = begin
        period = self.method.redraw
        if period == 0:
            return
        begin = 0 if period is None else epoch // period * period
        if self.pool_epoch == begin:
            return
        path = folder / f"draws-{begin}.safetensors"
        self.accelerator.wait_for_everyone()
        there = path.exists()
        self.accelerator.wait_for_everyone()
        if not there:
            if begin:
                self._save()
            self._fill(begin, path)
        self.pool, self.pool_epoch = Pool.read(path), begin

    def _renew_reference(self, path: Path) -> None:
        """Take the policy as it is now as the reference, or what an interrupted try took at this point."""
        reference = self.bare.__dict__["reference"]
        if self.first and not path.exists():
            checkpoint.write(path, checkpoint.plain(trained(self.bare.policy)))
        self.accelerator.wait_for_everyone()
        put(reference, checkpoint.read(path, self.device))

    def _drop_outdated(self) -> None:
        """Remove draws and references that no resumed run can ask for: the checkpoint is past their epoch."""
        now = self.state.step // self.per_epoch
        for kind in ("draws", "reference"):
            made = {int(p.stem.partition("-")[2]): p for p in self.job.folder.glob(f"{kind}-*.safetensors")}
            current = max((epoch for epoch in made if epoch <= now), default=0)
            for epoch, path in made.items():
                if epoch < current:
                    path.unlink()

    def _fill(self, epoch: int, path: Path) -> None:
        """Draw for the rows of an epoch, each process for some of the batches, and write the pool."""
        left = self.total - epoch * self.per_epoch  # steps; fewer than an epoch's visit only some of its rows
        rows = np.concatenate(self._batches(epoch)[:left])
        batches = by_length(self.examples, np.sort(rows), self.budget.batch_size)[self.index :: self.processes]

        def draw(rows: Rows) -> tuple[Drawn, dict[str, Tensor]]:
            return self._draw(rows, epoch, epoch * self.per_epoch / self.total, epoch, int(rows[0]))

        def tick(done: int, total: int) -> None:
            self.report(self.state.step, self.total, f"drawing candidates {done}/{total}")

        pool = fill(batches, len(self.examples), draw, tick)
        if self.processes == 1:
            return pool.write(path)
        parts = [path.with_name(f"part-{i}-{path.name}") for i in range(self.processes)]
        pool.write(parts[self.index])
        self.accelerator.wait_for_everyone()
        if self.first:
            Pool.join([Pool.read(part) for part in parts]).write(path)
            for part in parts:
                part.unlink()
        self.accelerator.wait_for_everyone()

    # --- one step ----------------------------------------------------------------------------------------

    def _train_on(self, rows: Rows, epoch: int) -> None:
        state = self.state
        progress = state.step / self.total
        if self.pool is None:
            drawn, kept = self._draw(rows, epoch, progress, state.step)
        else:
            drawn, kept = self.pool.of(rows, self.device)
        prompts = prompts_of(self.examples, "train", rows, self.device)
        if state.step == 0 and self.pool is not None:
            self.bare.eval()
            with torch.no_grad(), self.accelerator.autocast():
                self.method.begin(self.bare.step(Batch(drawn, prompts, kept, epoch, progress, None)))
            self._share_heads()
        self.learner.train(self.method.dropout)
        factor = self.budget.lr_factor(state.step, self.total)
        for group in self.optimizer.param_groups:
            group["lr"] = self.budget.lr * group["scale"] * factor
        logging = state.step % _LOG_EVERY == 0
        for update in range(self.method.updates):
            self._update(Batch(drawn, prompts, kept, epoch, progress, {} if logging else None), update)
        if logging:
            values = mean_of(gather_object(self.log))
            self._write({"step": state.step, "epoch": epoch, "lr": self.budget.lr * factor, **values})
        self.log = []

    def _update(self, batch: Batch, update: int) -> None:
        B = len(batch.prompts.rows)
        pieces = micro_batches(B, self.job.micro_batch, self.index, self.processes)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for part in pieces:
            micro = cut(batch, slice(part.start, part.stop))
            torch.manual_seed(stream(self.job.seed, "dropout", self.state.step, update, part.start))
            with (
                self.accelerator.no_sync(self.learner) if part is not pieces[-1] else nullcontext(),
                self.accelerator.autocast(),
            ):
                loss = self.learner(micro) * part.weight
            total += loss.detach()
            if micro.log is not None:
                self._must_be_finite(total)
            self.accelerator.backward(loss * self.processes)  # whose gradients are averaged, not added
            if micro.log is not None and part.weight:
                self.log.append((part.weight, {"loss": float(loss.detach()) / part.weight, **micro.log}))
        self.finite &= self.accelerator.reduce(total).isfinite()
        if self.budget.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self.learner.parameters(), self.budget.clip)
            if batch.log is not None and norm is not None and self.first:
                self.log.append((1.0, {"grad_norm": float(norm)}))
        self.optimizer.step()

    def _must_be_finite(self, loss: Tensor | None = None) -> None:
        if not bool(self.finite if loss is None else self.finite & loss.isfinite()):
            raise BenchError(
                f"the loss was not finite by step {self.state.step}; lower lr (now {self.budget.lr}) or set clip"
            )

    # --- evaluation, log, checkpoints --------------------------------------------------------------------

    def _evaluate(self) -> None:
        state = self.state
        epoch = (state.step - 1) // self.per_epoch
        found = self._validate() if self.select != "logp" else self._likelihood()
        value = float(broadcast(torch.tensor(found, dtype=torch.float64, device=self.device)))
        better = not state.evaluations or value > state.best
        state.evaluations.append((state.step, value))
        if better:
            state.best, state.best_step, state.stale = value, state.step, 0
            self.best = checkpoint.plain(trained(self.bare))
        else:
            state.stale += 1
            state.stopped = self.budget.patience is not None and state.stale >= self.budget.patience
        self._write(
            {"step": state.step, "epoch": epoch, f"valid/{self.select}": value, "seconds": round(state.seconds, 1)}
        )

    def _validate(self) -> float:
        """Compute ndcg@10 on the validation rows (or the fixed subset) with the method's own ranking."""
        valid, n = self.job.data.valid, self.budget.eval_examples
        rows = np.arange(len(valid))
        if n is not None and n < len(valid):
            rows = np.sort(np.random.default_rng(stream(0, "validation")).permutation(len(valid))[:n])
        if not len(rows):
            return 0.0
        self.bare.eval()
        targets = torch.as_tensor(valid.target, device=self.device)
        batches = by_length(valid, rows, self.job.rank_batch)[self.index :: self.processes]

        def told(part: Rows) -> Rows:
            self.report(self.state.step, self.total, f"validating on {len(rows)} rows")
            return part

        jobs = (
            RankJob(
                prompts_of(valid, "valid", told(part), self.device),
                _SELECT_K,
                self.job.beams,
                self.job.seed,
                self.bare.policy,
                self.collab,
                self.fitted,
                self.job.length_penalty,
            )
            for part in batches
        )
        with self.accelerator.autocast():
            rank = self.accelerator.reduce(ranks(self.method, jobs, targets))
        rank = rank[torch.as_tensor(rows, device=self.device)]
        gain = torch.where(rank > 0, 1 / torch.log2(rank.double() + 1), 0.0)
        return float(gain.mean())

    def _likelihood(self) -> float:
        """Compute the mean log-probability of validation targets without histories, trie measure, in nats."""
        self.bare.eval()
        nobody = torch.full((1, 1), -1, device=self.device)
        with torch.no_grad(), self.accelerator.autocast():
            found = exact(self.bare.policy, self.bare.policy.encode(nobody))
        place = torch.full((self.bare.policy.catalogue.trie.n_nodes,), -1, device=self.device)
        place[found.leaves] = torch.arange(len(found.leaves), device=self.device)
        leaf = self.bare.policy.trie.leaf_of[torch.as_tensor(self.job.data.valid.target, device=self.device)]
        return float(found.trie[0, place[leaf]].double().mean())

    def _open_log(self) -> None:
        self.log_path.touch()
        with self.log_path.open("r+b") as f:
            f.truncate(self.state.log_bytes)
        self.trackers.begin(self.log_path)
        self.log_file = self.log_path.open("a", encoding="utf-8")

    def _write(self, line: dict[str, Any]) -> None:
        if self.first:
            self.log_file.write(json.dumps(line) + "\n")
            self.trackers.log(line)

    def _resume(self) -> tuple[Progress, dict[str, Tensor]]:
        """Continue from the newest checkpoint; a fresh start if there is none."""
        found = checkpoint.load(self.job.folder, self.device)
        logged = self.log_path.stat().st_size if self.log_path.exists() else 0
        if found is None or logged < found.record["log_bytes"]:  # lost its end, as in a power cut
            return Progress(), {}
        put(self.bare, found.tensors["learner"])
        checkpoint.restore(self.optimizer, found.tensors["optimizer"])
        saved = {**found.record, "evaluations": [(int(s), float(v)) for s, v in found.record["evaluations"]]}
        return Progress(**saved), checkpoint.plain(found.tensors.get("best", {}))

    def _save(self) -> None:
        if not self.first:
            return
        self.log_file.flush()
        self.state.log_bytes = (self.job.folder / "train.jsonl").stat().st_size
        self._must_be_finite()
        tensors = {
            "learner": trained(self.bare),
            "best": self.best,
            "optimizer": checkpoint.moments(self.optimizer),
        }
        checkpoint.save(self.job.folder, self.state.step, tensors, asdict(self.state))
        self._drop_outdated()
        self.saved_at = time.perf_counter()


class Piece(NamedTuple):
    """A micro-batch: prompts ``start`` to ``stop`` of a batch, and their share of it."""

    start: int
    stop: int
    weight: float


def micro_batches(size: int, limit: int | None, index: int = 0, processes: int = 1) -> list[Piece]:
    """Cut a process's share of a batch.

    A process without a prompt gets one that counts nothing, as all must take part in every gradient.

    Args:
        size: Prompts of the batch, B.
        limit: Prompts per micro-batch; None: all at once.
        index: Which process.
        processes: How many share the batch.
    """
    first, last = size * index // processes, size * (index + 1) // processes
    if first == last:
        return [Piece(0, 1, 0.0)]
    cuts = [*range(first, last, limit or last - first), last]
    return [Piece(a, b, (b - a) / size) for a, b in pairwise(cuts)]


def mean_of(logged: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Weighted mean of each value over the micro-batches and updates that have it."""
    found: dict[str, list[tuple[float, float]]] = {}
    for weight, values in logged:
        for name, value in values.items():
            found.setdefault(name, []).append((weight, value))
    return {name: sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) for name, pairs in found.items()}


def cut(batch: Batch, part: slice | Tensor) -> Batch:
    """Take some prompts out of a batch, by range or by number."""
    drawn, prompts = batch.drawn, batch.prompts
    rewards = None if drawn.rewards is None else drawn.rewards[part]
    return batch._replace(
        drawn=Drawn(
            drawn.items[part],
            rewards,
            {k: v[part] for k, v in drawn.extra.items()},
            None if drawn.paths is None else drawn.paths[part],
        ),
        prompts=Prompts(prompts.part, prompts.rows[part], prompts.history[part]),
        kept={k: v[part] for k, v in batch.kept.items()},
        log=None if batch.log is None else {},
    )
