"""Beam search over the whole vocabulary: the text that a backbone writes when nothing keeps it to the catalogue."""

import torch
from torch import Tensor

from rlrecbench.policy.base import Encoded, Policy
from rlrecbench.policy.score import CHUNK


@torch.no_grad()
def beam_free(policy: Policy, encoded: Encoded, width: int, *, length_penalty: float = 0.0) -> Tensor:
    """Find the best path per prompt, illegal tokens included: [B, L], -1 behind the end.

    A path ends with the catalogue's terminator, or at the length L of its longest path. After n tokens the beams are
    the best unfinished paths of n tokens; finished ones wait beside them, and the search stops when no beam can
    become better than they are.

    Args:
        policy: The backbone.
        encoded: B encoded prompts.
        width: Beams W.
        length_penalty: A path's score is its summed log-probability divided by its length to this power, 0 or more.
    """
    L, end = policy.catalogue.max_length, policy.catalogue.terminator
    states, cache = policy.start(encoded)
    paths = torch.full((encoded.batch, 1, L), -1, device=states.device)
    scores = torch.zeros(encoded.batch, 1, device=states.device)
    best, best_score = paths[:, 0], torch.full_like(scores[:, 0], -torch.inf)

    def finish(candidates: Tensor, totals: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Keep the best of the finished paths [B, n, L] where it is better than the best so far."""
        score, at = (totals / length**length_penalty).max(1)
        path = candidates.gather(1, at[:, None, None].expand(-1, -1, L))[:, 0]
        better = score > best_score
        return torch.where(better[:, None], path, best), torch.where(better, score, best_score)

    for length in range(1, L + 1):
        going, tokens, ended = _extend(policy, states, width, end)
        if end is not None:
            closed = paths.clone()
            closed[..., length - 1] = end
            best, best_score = finish(closed, scores + ended, length)
        totals = (scores.unsqueeze(-1) + going).flatten(1)
        scores, at = totals.topk(min(width, totals.shape[1]))
        parents = at // going.shape[-1]
        paths = paths.gather(1, parents.unsqueeze(-1).expand(-1, -1, L))
        chosen = tokens.flatten(1).gather(1, at)
        paths[..., length - 1] = chosen
        if length == L:
            best, _ = finish(paths, scores, L)
        elif (scores[:, 0] / L**length_penalty <= best_score).all():  # sums only fall, and no path is longer
            break
        else:
            states, cache = policy.step(cache, chosen, parents)
    return best


def _extend(policy: Policy, states: Tensor, width: int, end: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Take the best tokens behind each of W beams, without the terminator.

    Returns:
        Their log-probabilities and numbers, each [B, W, M], and the terminator's log-probability [B, W].
    """
    B, W = states.shape[:2]
    M = min(width, policy.catalogue.vocab - (end is not None))
    parts = []
    for part in states.flatten(0, 1).split(max(1, CHUNK // policy.catalogue.vocab)):
        logp = policy.head(part).log_softmax(-1)
        ended = torch.full_like(logp[:, 0], -torch.inf)
        if end is not None:
            ended = logp[:, end].clone()
            logp[:, end] = -torch.inf
        parts.append((*logp.topk(M), ended))
    going, tokens, ended = (torch.cat(x) for x in zip(*parts, strict=True))
    return going.view(B, W, M), tokens.view(B, W, M), ended.view(B, W)
