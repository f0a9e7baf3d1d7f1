"""The line of single networks on points that were worked out by hand, and mixtures of measured systems."""

import numpy as np
import pytest

from assay.images.cascade.line import Line, line_of, mixture
from assay.images.cascade.rivals import mixed_metrics
from assay.metrics.binary import resample
from assay.metrics.paired import gain

# A filter and networks at 96 and 128 pixels; a fourth lies below their line, a fifth costs more than a better one.
COSTS = {"filter": 31.0, "96": 71.0, "128": 125.0, "below": 100.0, "dear": 200.0}
QUALITY = {"filter": 0.673, "96": 0.725, "128": 0.761, "below": 0.73, "dear": 0.75}


def test_the_line_holds_what_no_mixture_beats() -> None:
    line = line_of(COSTS, QUALITY)
    assert line == Line(("filter", "96", "128"), (31.0, 71.0, 125.0))
    for cost, wanted in ((31, 0.673), (56, 0.7055), (71, 0.725), (98, 0.743), (125, 0.761), (300, 0.761)):
        shares = line.shares(cost)
        assert sum(shares.values()) == pytest.approx(1)
        assert sum(share * QUALITY[name] for name, share in shares.items()) == pytest.approx(wanted)
        assert sum(share * COSTS[name] for name, share in shares.items()) <= cost + 1e-9
    assert line.shares(5.0)["filter"] == 1.0, "for want of a cheaper one"


@pytest.mark.parametrize(
    ("costs", "quality", "names"),
    [
        (
            {"a": 0, "b": 9, "c": 9},
            {"a": 0.7, "b": 0.72, "c": 0.75},
            ("a", "c"),
        ),  # bytes: all but the first cost the same
        ({"a": 1, "b": 2, "c": 3}, {"a": 0.7, "b": 0.71, "c": 0.8}, ("a", "c")),  # b lies below the chord
        ({"a": 1, "b": 2}, {"a": 0.8, "b": 0.7}, ("a",)),  # a dearer network that is no better
        ({"a": 5}, {"a": 0.5}, ("a",)),
    ],
)
def test_the_line_of_few_networks(costs: dict[str, float], quality: dict[str, float], names: tuple[str, ...]) -> None:
    assert line_of(costs, quality).names == names


def test_a_mixture_has_the_balanced_accuracy_that_a_coin_is_expected_to_give() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.arange(120) % 2, np.arange(120) // 10
    probs = {name: np.clip(0.5 + (labels - 0.5) * rng.normal(0.6, 1, 120), 0, 1) for name in "ab"}
    found = {name: resample(labels, values, groups, metrics=mixed_metrics) for name, values in probs.items()}
    both = np.column_stack(list(probs.values()))
    wanted = resample(labels, both, groups, metrics=lambda *rows, **by: mixed_metrics(*rows, **by, shares=(0.3, 0.7)))
    mixed = mixture(found, {"a": 0.3, "b": 0.7}, metric="balanced_accuracy")
    assert mixed.point["balanced_accuracy"] == pytest.approx(wanted.point["balanced_accuracy"])
    np.testing.assert_allclose(mixed.left_out["balanced_accuracy"], wanted.left_out["balanced_accuracy"])
    # Against one of its own parts it is as good as the other's share of the difference, interval and all.
    part = gain(mixed, found["a"], "balanced_accuracy", key="gain")
    whole = gain(found["b"], found["a"], "balanced_accuracy", key="gain")
    assert [part[key] for key in whole] == pytest.approx([0.7 * value for value in whole.values()])
