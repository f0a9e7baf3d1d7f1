"""What tune chooses: a cascade above the line of single networks, or one network, by each way of counting."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from assay.images.cascade.bake_off import GAIN, choose, choose_all
from assay.images.cascade.cost import BYTES, MACS, SERVER_MACS, WAYS, Costs
from assay.images.cascade.decision import deferred_mask
from assay.images.cascade.evaluation import what_ships
from assay.images.cascade.measure import Measured
from assay.images.cascade.pairs import exits_by_share, fit_pair, pairs_of
from assay.images.cascade.rivals import mixed_metrics
from assay.images.stacking.join import Join
from assay.metrics.binary import Resampled, resample
from assay.params.stacking import EvaluateCascade

COSTS = Costs({"stage1": 10, "one": 20, "two": 40, "ensemble": 100}, 500)
LABELS, GROUPS = np.arange(800) % 2, np.arange(800) // 20
PAIR = ("stage1", "two")
SETTINGS = EvaluateCascade(
    ship="auto",
    count=MACS,
    budget_forged=0.2,
    budget_real=0.2,
    certify=False,
    assumed_correlation=None,
    unsure=None,
    unsure_coverage=None,
    deferred_shares=[0.3],
)


def right(share: float, seed: int = 0) -> Resampled:
    """A system that is right in this share of the images of both classes, drawn row by row."""
    hit = np.random.default_rng(seed).random(800) < share
    return resample(LABELS, np.where(hit, LABELS, 1 - LABELS).astype(float), GROUPS, metrics=mixed_metrics)


def drawn(**shares: float) -> dict[str, Resampled]:
    # The same draw for all: of two systems the better is right wherever the other is.
    return {name: right(share) for name, share in shares.items()}


ALONE = drawn(stage1=0.65, one=0.72, two=0.8, ensemble=0.8)


def chosen(cascade: float, alone: Mapping[str, Resampled] = ALONE, *, share: float = 0.3, way: str = MACS) -> object:
    others = dict.fromkeys(pairs_of(COSTS), right(0.5))
    shares = dict.fromkeys(others, share)
    return choose(alone, others | {PAIR: right(cascade)}, shares, COSTS, way=way)


def test_a_cascade_above_the_line_is_kept_and_one_on_it_is_rejected() -> None:
    kept, rejected = chosen(0.78), chosen(0.72)
    assert (kept.cascade, kept.rejected, kept.ships) == (PAIR, False, "cascade")
    # 10 + 0.3 * 40 = 22 million: between stage 1 and the network of 40, or through the one of 20.
    line = kept.line
    accuracy = {name: ALONE[name].point["balanced_accuracy"] for name in line.names}
    height = sum(weight * accuracy[name] for name, weight in line.shares(22).items())
    assert kept.report[GAIN] == pytest.approx(right(0.78).point["balanced_accuracy"] - height)
    assert kept.report[f"{GAIN}_low"] > 0 > rejected.report[f"{GAIN}_low"]
    assert (rejected.cascade, rejected.rejected, rejected.ships) == (PAIR, True, "two")
    assert kept.report["n_groups"] == 40


def test_the_one_network_is_the_cheapest_that_the_best_is_not_shown_to_beat() -> None:
    alone = drawn(stage1=0.797, one=0.79, two=0.8, ensemble=0.8)
    assert chosen(0.5, alone).ships == "stage1", "two is better by chance alone"
    assert chosen(0.5, drawn(stage1=0.6, one=0.798, two=0.8, ensemble=0.8)).ships == "one"
    assert chosen(0.5, drawn(stage1=0.6, one=0.7, two=0.75, ensemble=0.85)).ships == "ensemble"


def test_where_a_device_is_free_a_cascade_begins_on_it_and_its_line_at_no_cost() -> None:
    found = choose_all(
        ALONE, {pair: right(0.75) for pair in pairs_of(COSTS)}, dict.fromkeys(pairs_of(COSTS), 0.3), COSTS
    )
    assert list(found) == list(WAYS)
    assert (found[MACS].comparisons, found[SERVER_MACS].comparisons) == (6, 3)
    assert found[SERVER_MACS].cascade[0] == found[BYTES].cascade[0] == "stage1"
    assert (found[SERVER_MACS].line.costs[0], found[BYTES].line.costs) == (0, (0, 500))
    # With three tenths deferred: by bytes three tenths of the way from stage 1 to the best network.
    accuracy = {name: ALONE[name].point["balanced_accuracy"] for name in ("stage1", "two")}
    height = 0.7 * accuracy["stage1"] + 0.3 * accuracy["two"]
    assert found[BYTES].report[GAIN] == pytest.approx(right(0.75).point["balanced_accuracy"] - height)


def test_few_groups_show_nothing() -> None:
    few = LABELS[:60], np.where(np.arange(60) % 6, LABELS[:60], 1 - LABELS[:60]).astype(float), GROUPS[:60]
    good = resample(*few, metrics=mixed_metrics)
    alone = {name: resample(few[0], np.full(60, 0.5), few[2], metrics=mixed_metrics) for name in ALONE}
    pairs = pairs_of(COSTS)
    found = choose(alone, dict.fromkeys(pairs, good), dict.fromkeys(pairs, 0.3), COSTS, way=SERVER_MACS)
    assert (found.rejected, found.network) == (True, "stage1")
    assert found.report[GAIN] > 0.3


def test_what_ships_may_be_forced() -> None:
    choice = chosen(0.78)
    for ship, wanted in (("auto", "cascade"), ("cascade", "cascade"), ("one", "one"), ("ensemble", "ensemble")):
        assert what_ships(ship, choice, list(ALONE)) == wanted
    with pytest.raises(
        ValueError, match=r"evaluate_cascade\.ship: got 'resnet'; it is auto, cascade or one of stage1, one"
    ):
        what_ships("resnet", choice, list(ALONE))


def test_every_network_stands_behind_every_cheaper_one_and_the_ensemble_behind_all() -> None:
    assert pairs_of(COSTS) == [
        ("stage1", "one"),
        ("stage1", "two"),
        ("one", "two"),
        *((name, "ensemble") for name in ("stage1", "one", "two")),
    ]
    alike = pairs_of(Costs({"small": 5, "twin": 10, "stage1": 10, "ensemble": 100}, 500))
    assert alike[:4] == [("small", "stage1"), ("small", "twin"), ("stage1", "twin"), ("stage1", "small")]


def role(seed: int, n: int = 400) -> Measured:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    signs = 2.0 * labels - 1
    keys = pd.DataFrame({"sample_id": np.arange(n), "label": labels, "group_id": np.arange(n) // 10, "generator": "x"})
    first, second = signs + rng.normal(0, 1.5, n), 2 * signs + rng.normal(0, 1.5, n)
    logits = {"stage1": first, "one": second, "ensemble": first + second}
    return Measured(keys, logits, {"test": np.ones(n, dtype=bool)})


def test_a_pair_joins_both_logits_unless_the_second_is_the_ensemble_over_the_first() -> None:
    calib, tune, test = role(0), role(1), role(2)
    options = {"first_temperature": 1.5, "settings": SETTINGS}
    joined, over = (fit_pair(calib, tune, ("stage1", name), **options) for name in ("one", "ensemble"))
    assert over.join == Join()
    assert joined.join.first > 0.2
    assert joined.join.second > 0.5
    first, second = joined.probs(test)
    found = joined.decide(test)
    assert np.array_equal(found.deferred, deferred_mask(first, **joined.thresholds.exits))
    assert np.array_equal(found.probs, np.where(found.deferred, second, first))
    assert set(found.decided_by) == {"stage1", "one"}
    assert joined.temperature["temperature"] > 0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_exits_by_share_defer_what_the_first_is_least_sure_of(share: float) -> None:
    probs = np.random.default_rng(0).random(1000)
    deferred = deferred_mask(probs, **exits_by_share(probs, share))
    assert deferred.mean() == pytest.approx(share, abs=0.002)
    doubt = np.abs(probs - 0.5)
    assert not deferred.any() or doubt[deferred].max() <= doubt[~deferred].min(initial=1)
