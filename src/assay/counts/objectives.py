"""What a variant learns: targets, loss, and the way from a network's outputs back to counts and bins.

Losses are sums over the batch; dividing by the number of examples is left to the training loop, which knows how many
there are when gradients are accumulated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from coral_pytorch.dataset import levels_from_labelbatch
from coral_pytorch.losses import coral_loss, corn_loss
from scipy.special import expit, softmax
from torch.nn import functional

from assay.counts.bins import Bins, bins_from_json
from assay.params.counts import Classifier, CountVariant, LlmLora, Ordinal, Ranking, Regression


class Objective(ABC):
    """Targets, loss and predictions of one kind of variant."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Outputs the network needs."""

    @abstractmethod
    def targets(self, counts: np.ndarray) -> np.ndarray:
        """What the network is trained on, [n], from counts [n]."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the loss over a batch: outputs [n, num_outputs], targets [n]."""

    def probs(self, outputs: np.ndarray) -> np.ndarray | None:
        """Probability of each bin [n, num_bins], or None where there are no bins."""
        return None

    @abstractmethod
    def counts(self, outputs: np.ndarray) -> np.ndarray:
        """Predicted count float64 [n], never below 1."""

    @abstractmethod
    def bins_of(self, outputs: np.ndarray, quantile: Bins) -> np.ndarray:
        """Predicted bin int64 [n]: of the variant's own bins, or of ``quantile`` where it has none."""

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``objective_from_json`` reads them back."""
        kind = next(name for name, cls in KINDS.items() if isinstance(self, cls))
        return {"kind": kind, **asdict(self)}  # type: ignore[call-overload]


def pairwise_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """How badly scores [n] order the rows of a batch by their targets [n]: a sum over rows.

    log(1 + exp(-d)) for each pair of different targets, d by how much the larger one's score is ahead (RankNet: Burges et
    al. 2005), and of each row the mean over its pairs. A schedule needs the order alone (Fu et al. 2024, "Efficient LLM
    Scheduling by Learning to Rank").
    """
    larger = (targets[:, None] > targets[None, :]).to(scores.dtype)
    losses = functional.softplus(scores[None, :] - scores[:, None]) * larger
    pairs = (larger + larger.T).sum(dim=1).clamp(min=1)
    return ((losses + losses.T).sum(dim=1) / pairs).sum()


@dataclass(frozen=True)
class RegressionObjective(Objective):
    """Squared error on the standardised count, or on log(1 + count) standardised.

    With a ``rank_weight`` that share of the loss is `pairwise_loss` (Sculley 2010, "Combined Regression and Ranking"): the
    rest keeps the scores in units of the target.

    Predictions stay within ``low`` and ``high``, the range of train. A prediction made on the log scale is the median
    rather than the mean of the count if the logs are symmetric around it; it is reported as it is.
    """

    log: bool
    mean: float
    std: float
    low: float
    high: float
    rank_weight: float = 0.0

    @property
    def num_outputs(self) -> int:
        return 1

    def targets(self, counts: np.ndarray) -> np.ndarray:
        values = np.log1p(counts) if self.log else np.asarray(counts, dtype=np.float64)
        return ((values - self.mean) / self.std).astype(np.float32)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores = outputs.squeeze(1)
        errors = functional.mse_loss(scores, targets, reduction="sum")
        if not self.rank_weight:
            return errors
        return (1 - self.rank_weight) * errors + self.rank_weight * pairwise_loss(scores, targets)

    def counts(self, outputs: np.ndarray) -> np.ndarray:
        values = outputs[:, 0].astype(np.float64) * self.std + self.mean
        return np.clip(np.expm1(values) if self.log else values, self.low, self.high)

    def bins_of(self, outputs: np.ndarray, quantile: Bins) -> np.ndarray:
        return quantile.assign(self.counts(outputs))


@dataclass(frozen=True)
class BinnedObjective(Objective):
    """What classes and ordinal bins share."""

    bins: Bins

    @abstractmethod
    def probs(self, outputs: np.ndarray) -> np.ndarray:
        """Probability of each bin [n, num_bins]."""

    def targets(self, counts: np.ndarray) -> np.ndarray:
        return self.bins.assign(counts)

    def counts(self, outputs: np.ndarray) -> np.ndarray:
        return self.bins.expected(self.probs(outputs))


@dataclass(frozen=True)
class ClassObjective(BinnedObjective):
    """Cross-entropy over bins, each weighted by ``weights`` (mean 1 over train)."""

    weights: tuple[float, ...]

    @property
    def num_outputs(self) -> int:
        return self.bins.num_bins

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor(self.weights, dtype=outputs.dtype, device=outputs.device)
        return functional.cross_entropy(outputs, targets, weight=weights, reduction="sum")

    def probs(self, outputs: np.ndarray) -> np.ndarray:
        return softmax(outputs.astype(np.float64), axis=1)

    def bins_of(self, outputs: np.ndarray, quantile: Bins) -> np.ndarray:
        return np.asarray(outputs.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class OrdinalObjective(BinnedObjective):
    """CORN (Shi, Cao and Raschka 2021) or CORAL (Cao, Mirjalili and Raschka 2020) over ordered bins.

    Output k speaks of "beyond bin k": in CORN given that bin k is reached, so that the product of the first k + 1
    probabilities is that of lying beyond bin k; in CORAL directly.
    """

    name: str

    @property
    def num_outputs(self) -> int:
        return self.bins.num_bins - 1

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.name == "corn":
            return corn_loss(outputs, targets, self.bins.num_bins) * len(targets)
        levels = levels_from_labelbatch(targets, self.bins.num_bins, dtype=outputs.dtype).to(outputs.device)
        return coral_loss(outputs, levels, reduction="sum")

    def probs(self, outputs: np.ndarray) -> np.ndarray:
        beyond = expit(outputs.astype(np.float64))
        if self.name == "corn":
            beyond = np.cumprod(beyond, axis=1)
        ones, zeros = np.ones((len(outputs), 1)), np.zeros((len(outputs), 1))
        # CORAL's biases are free during training: where they cross, a difference would be negative.
        steps = np.clip(-np.diff(np.hstack([ones, beyond, zeros]), axis=1), 0, None)
        return steps / steps.sum(axis=1, keepdims=True)

    def bins_of(self, outputs: np.ndarray, quantile: Bins) -> np.ndarray:
        # The rank of both papers: how many thresholds are passed with a probability above one half.
        passed = np.cumsum(self.probs(outputs), axis=1)[:, :-1]
        return np.asarray((passed < 0.5).sum(axis=1), dtype=np.int64)


KINDS: dict[str, type[Objective]] = {
    "regression": RegressionObjective,
    "classes": ClassObjective,
    "ordinal": OrdinalObjective,
}


def class_weights(bins: Bins, rule: str) -> tuple[float, ...]:
    """Weight of each bin: 1, or for ``balanced`` inverse to its share of train (0 where it is empty), mean 1 over train."""
    if rule == "none":
        return (1.0,) * bins.num_bins
    filled = sum(share > 0 for share in bins.shares)
    return tuple(1 / (filled * share) if share > 0 else 0.0 for share in bins.shares)


def make_objective(variant: str, settings: CountVariant, *, counts: np.ndarray, bins: dict[str, Bins]) -> Objective:
    """The objective of a variant, fitted on the counts of train."""
    if isinstance(settings, Regression):
        values = np.log1p(counts) if settings.target == "log1p" else counts.astype(np.float64)
        scale, limits = (float(values.mean()), float(values.std())), (float(counts.min()), float(counts.max()))
        rank_weight = settings.rank_weight if isinstance(settings, Ranking) else 0.0
        return RegressionObjective(settings.target == "log1p", *scale, *limits, rank_weight)
    if isinstance(settings, Ordinal):
        return OrdinalObjective(bins["quantile"], settings.loss)
    assert isinstance(settings, Classifier | LlmLora)
    chosen = bins["equal_width" if variant == "equal_width" else "quantile"]
    return ClassObjective(chosen, class_weights(chosen, settings.class_weights))


def objective_from_json(record: dict[str, Any]) -> Objective:
    """The objective that ``to_json`` wrote.

    Raises:
        ValueError: of a kind that is not known.
    """
    fields = dict(record)
    kind = fields.pop("kind")
    if kind not in KINDS:
        raise ValueError(f"objective of kind {kind!r} is not known; train the variant again")
    if "bins" in fields:
        fields["bins"] = bins_from_json(fields["bins"])
    if "weights" in fields:
        fields["weights"] = tuple(fields["weights"])
    return KINDS[kind](**fields)
