"""Intervals of counts: coverage over problems never seen, the quantile of split conformal prediction, whole limits."""

import json

import numpy as np
import pandas as pd
import pytest

from assay.counts.conformal import Intervals, fit_intervals, grouped_quantile, intervals_from_json, kinds_of
from assay.counts.coverage import coverage_by_part, judge_intervals, measure_intervals

LEVEL = 0.9


@pytest.mark.parametrize("num_groups", [8, 9, 10, 19, 27, 200])
def test_with_a_row_a_group_it_is_the_quantile_of_split_conformal_prediction(num_groups):
    """The ceil((n + 1) level)-th smallest score (Lei et al. 2018), and none where that is beyond the last."""
    scores = np.random.default_rng(num_groups).normal(size=num_groups)
    rank = int(np.ceil((num_groups + 1) * LEVEL - 1e-9))
    wanted = np.sort(scores)[rank - 1] if rank <= num_groups else np.inf
    assert grouped_quantile(scores, np.arange(num_groups), level=LEVEL) == wanted


def test_a_group_has_the_same_say_however_many_rows_it_has():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 9, 30))
    scores = rng.normal(size=groups.size)
    found = grouped_quantile(scores, groups, level=LEVEL)
    # Every row of one group said five times over: nothing changes.
    often = np.repeat(np.arange(groups.size), np.where(groups == 3, 5, 1))
    assert grouped_quantile(scores[often], groups[often], level=LEVEL) == found
    order = rng.permutation(groups.size)
    assert grouped_quantile(scores[order], groups[order], level=LEVEL) == found


def problems(rng: np.random.Generator, *, count: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and groups of ``count`` problems: most of a distance belongs to the problem."""
    shared = np.repeat(rng.normal(size=count), rows)
    return np.abs(shared + 0.2 * rng.normal(size=count * rows)), np.repeat(np.arange(count), rows)


def test_coverage_holds_for_new_problems_where_a_quantile_over_rows_falls_short():
    rng, ours, rowwise = np.random.default_rng(1), [], []
    for _ in range(400):
        scores, groups = problems(rng, count=10, rows=12)
        new, _ = problems(rng, count=200, rows=2)
        ours.append(np.mean(new <= grouped_quantile(scores, groups, level=LEVEL)))
        # Each row taken for a problem of its own, as of rows that are exchangeable.
        rowwise.append(np.mean(new <= grouped_quantile(scores, np.arange(scores.size), level=LEVEL)))
    error = np.std(ours) / 20
    assert np.mean(ours) > LEVEL - 2 * error
    assert np.mean(rowwise) < LEVEL - 4 * error


def table(rng: np.random.Generator, *, problems: int, noise: dict[str, float]) -> pd.DataFrame:
    """Scores of one system, ``ours``, on some problems, each under every kind of setting with its own noise."""
    rows = [(f"q{rng.integers(10**9)}", kind) for _ in range(problems) for kind in noise]
    names = [name for name, _ in rows for _ in range(3)]
    kinds = [kind for _, kind in rows for _ in range(3)]
    predicted = rng.lognormal(3, 0.5, len(names))
    counts = np.maximum(1, np.round(predicted * np.exp(rng.normal(0, [noise[kind] for kind in kinds]))))
    frame = pd.DataFrame({"counts": counts, "group": names, "setting": [f"{kind}, 5-Shot" for kind in kinds]})
    return frame.assign(**{"ours.counts": predicted, "ours.quantile": 0, "ours.width": 0})


def test_each_kind_of_setting_is_covered_and_gets_intervals_as_wide_as_it_needs():
    rng = np.random.default_rng(2)
    noise = {"GPT-4": 0.1, "PaLM 2": 0.8}
    calib, test = (table(rng, problems=count, noise=noise) for count in (60, 300))
    judged = judge_intervals(calib, test, level=LEVEL)["ours"]
    assert set(judged.intervals.kinds) == set(noise)
    assert judged.intervals.kinds["GPT-4"] < judged.intervals.pooled < judged.intervals.kinds["PaLM 2"]
    parts = coverage_by_part(test, test["ours.counts"].to_numpy(), judged, edges=[15.0, 30.0])
    assert set(parts) == {"kind_GPT-4", "kind_PaLM 2", "predicted_low", "predicted_middle", "predicted_high"}
    assert sum(parts[f"kind_{kind}"]["n"] for kind in noise) == len(test)
    for kind in noise:
        assert 0.86 < parts[f"kind_{kind}"]["coverage"] < 0.96, kind
    assert parts["kind_GPT-4"]["interval_width"] < parts["kind_PaLM 2"]["interval_width"] / 4
    # Without the kinds one of them would be left half covered, and the other too widely.
    pooled = Intervals(LEVEL, 60, judged.intervals.pooled, {})
    low, high = pooled.limits(test["ours.counts"], kinds_of(test["setting"]))
    inside = (low <= test["counts"]) & (test["counts"] <= high)
    assert inside[kinds_of(test["setting"]) == "PaLM 2"].mean() < 0.85


def test_limits_are_whole_hold_the_prediction_and_never_begin_below_one():
    reach = Intervals(LEVEL, 27, np.log(2), {"a": 1e-9})
    predicted = np.array([1.0, 3.0, 4.6, 99.0, 4.6])
    low, high = reach.limits(predicted, ["", "", "b", None, "a"])
    # A factor of two on 1 + count: 0 to 3, 1 to 7, 1.8 to 10.2, 49 to 199; the last holds no whole number but the nearest.
    assert low.tolist() == [1, 1, 2, 49, 5]
    assert high.tolist() == [3, 7, 10, 199, 5]
    none = Intervals(LEVEL, 3, None, {})
    assert np.isnan(none.limits(predicted, [""] * 5)).all()
    measured = measure_intervals(predicted, none.limits(predicted, [""] * 5), np.arange(5))
    assert np.isnan(measured.point["coverage"])


def test_too_few_problems_give_no_interval_and_json_brings_all_back():
    rng = np.random.default_rng(3)
    counts, groups = rng.integers(1, 90, 60), np.repeat(np.arange(12), 5)
    kinds = np.where(groups < 4, "rare", "often").astype(object)
    found = fit_intervals(counts, np.full(60, 20.0), kinds, groups, level=LEVEL)
    assert found.pooled is not None
    assert found.kinds == {}  # four and eight problems: neither is enough for nine of ten
    assert found.num_groups == 12
    assert intervals_from_json(json.loads(json.dumps(found.to_json()))) == found
    few = fit_intervals(counts[:20], np.full(20, 20.0), kinds[:20], groups[:20], level=LEVEL)
    assert few.pooled is None
    assert intervals_from_json(json.loads(json.dumps(few.to_json()))) == few
