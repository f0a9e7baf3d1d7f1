"""Cost against error on the same images: every network, the ensemble, and every cascade of two of them at many shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from assay.images.cascade.bake_off import Choice
from assay.images.cascade.cost import ENSEMBLE, WAYS, Costs
from assay.images.cascade.measure import Measured
from assay.images.cascade.pairs import Fitted, Pair, exits_by_share
from assay.images.cascade.rivals import learned_deferral, mixed_metrics

COLUMNS = ["system", "kind", "share", "share_deferred", *WAYS, "balanced_error"]
# Of a row: a system that judges every image, a point of the line of single networks, a cascade, one that a way of counting
# chose, or another way to defer in it.
NETWORK, LINE, CASCADE, CHOSEN, RIVAL = "network", "line", "cascade", "chosen", "rival"


def balanced_error(guesses: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the two classes' error rates; guesses bool [n]."""
    return float(np.mean([np.mean(guesses[labels == label] != bool(label)) for label in (0, 1)]))


def frontier(
    tune: Measured,
    test: Measured,
    *,
    probs: Mapping[str, np.ndarray],
    cascades: Mapping[Pair, Fitted],
    choices: Mapping[str, Choice],
    costs: Costs,
    shares: Sequence[float],
) -> pd.DataFrame:
    """Cost, by every way of counting, against balanced error on the seen families of test.

    Exits are taken from tune, where a cascade's first network is least sure of ``shares`` of the images; what is deferred
    on test is counted there. Random deferral (its expected error) and learned deferral stand beside the chosen cascades,
    at their costs.

    Args:
        probs: of test, each network and the ensemble on every image: probabilities [n].
        choices: what tune chose by each way of counting, with the line of single networks that it drew.

    Returns:
        A table with `COLUMNS`; ``share`` is that of tune. A line has a cost by its own way of counting alone.
    """
    seen, chosen = test.slices["test"], {choice.cascade for choice in choices.values()}
    labels = test.labels[seen]
    rows: list[tuple[object, ...]] = []
    for name in [*costs.singles, ENSEMBLE]:
        counted = [costs.alone(name, way=way) for way in WAYS]
        rows.append((name, NETWORK, np.nan, np.nan, *counted, balanced_error(probs[name][seen] >= 0.5, labels)))
    errors = {row[0]: row[-1] for row in rows}
    for way, choice in choices.items():
        for name, cost in zip(choice.line.names, choice.line.costs, strict=True):
            counted = [cost if other == way else np.nan for other in WAYS]
            rows.append(("line of single networks", LINE, np.nan, np.nan, *counted, errors[name]))
    for pair, fitted in cascades.items():
        kind, system = (CHOSEN if pair in chosen else CASCADE), " > ".join(pair)
        for share in shares:
            for suffix, deferred, error in _points(tune, test, fitted, share, rivals=pair in chosen):
                counted = [costs.cascade(*pair, deferred, way=way) for way in WAYS]
                rows.append((system + suffix, RIVAL if suffix else kind, share, deferred, *counted, error))
    return pd.DataFrame(rows, columns=COLUMNS)


def _points(
    tune: Measured, test: Measured, fitted: Fitted, share: float, *, rivals: bool
) -> Iterator[tuple[str, float, float]]:
    """Suffix of the name, share deferred on test and balanced error of a cascade, and of its rivals."""
    seen, on_tune, (first, second) = test.slices["test"], fitted.probs(tune), fitted.probs(test)
    labels = test.labels[seen]
    found = fitted.decide(test, exits=exits_by_share(on_tune[0], share))
    deferred = float(found.deferred[seen].mean())
    yield "", deferred, balanced_error(found.probs[seen] >= 0.5, labels)
    if rivals:
        both = np.column_stack([first, second])[seen]
        expected = mixed_metrics(labels, both, shares=(1 - deferred, deferred))["balanced_accuracy"][0]
        yield ", random deferral", deferred, 1.0 - float(expected)
        num = int(found.deferred[seen].sum())
        learned = learned_deferral(on_tune, tune.labels, first, rows=seen, num=num)
        yield ", learned deferral", deferred, balanced_error(np.where(learned, second, first)[seen] >= 0.5, labels)
