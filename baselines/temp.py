"""Temp: the beam search of a trained model on flattened probabilities (Bao et al., 2024, arXiv 2406.14900).

A token's score is log softmax(log p / T) over the whole vocabulary, which is log softmax(logits / T), since log p and
the logits differ by a constant. The search stays deterministic. Source: the public code of Flower's baseline,
``LogitProcesser.py``.
"""

from dataclasses import dataclass

from rlrecbench.api import Positive, Ranked, Ranker, RankJob, method


@method("temp", cite="bao2024d3")
@dataclass(frozen=True)
class Temp(Ranker):
    """Beam search at a temperature; nothing is trained beyond the method it starts from.

    Differs:
        - Flower's paper tries 1.2, 1.5 and 2 and does not say which row of its table is which; its script has 1.5.
        - Flower's row divides a title's score by its number of tokens, which here is the suite's choice
          (``rank: {length_penalty: 1}``).
    """

    temperature: Positive = 1.5  # divides the logits, 1 changes nothing; Flower's script

    def rank(self, job: RankJob) -> Ranked:
        """Search with divided logits."""
        return self.search(job, temperature=self.temperature)
