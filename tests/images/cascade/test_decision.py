"""The decision: who decides, which way, and that the ends of the cascade are its two levels."""

import numpy as np
import pytest

from assay.images.cascade.decision import decide, decide_alone, deferred_mask
from assay.images.cascade.thresholds import NEVER_FORGED, NEVER_REAL

FIRST, SECOND = np.random.default_rng(0).random((2, 200))


def test_deferring_everything_is_the_ensemble_and_nothing_is_stage_1() -> None:
    everything = decide(FIRST, SECOND, exit_real=NEVER_REAL, exit_forged=NEVER_FORGED)
    nothing = decide(FIRST, np.full(200, np.nan), exit_real=np.nextafter(0.5, 0), exit_forged=0.5)
    for found, probs, name in ((everything, SECOND, "ensemble"), (nothing, FIRST, "stage1")):
        assert np.array_equal(found.probs, probs)
        assert np.array_equal(found.verdicts == "forged", probs >= 0.5)
        assert set(found.decided_by) == {name}


def test_both_exits_take_their_thresholds_in_and_the_ensemble_overrules_none() -> None:
    first = np.array([0.0, 0.1, 0.11, 0.5, 0.89, 0.9, 1.0])
    second = np.array([np.nan, 0.99, 0.6, 0.5, 0.2, 0.01, np.nan])
    found = decide(first, second, exit_real=0.1, exit_forged=0.9)
    assert found.verdicts.tolist() == ["real", "real", "forged", "forged", "real", "forged", "forged"]
    assert found.deferred.tolist() == [False, False, True, True, True, False, False]
    assert found.decided_by.tolist() == ["stage1"] * 2 + ["ensemble"] * 3 + ["stage1"] * 2
    assert found.probs.tolist() == [0.0, 0.1, 0.6, 0.5, 0.2, 0.9, 1.0]
    assert deferred_mask(first, exit_real=0.1, exit_forged=0.9).tolist() == found.deferred.tolist()


def test_unsure_is_for_deferred_images_strictly_between() -> None:
    first = np.array([0.05, 0.5, 0.5, 0.5, 0.5, 0.95])
    second = np.array([0.5, 0.4, 0.41, 0.59, 0.6, 0.5])
    found = decide(first, second, exit_real=0.1, exit_forged=0.9, unsure=(0.4, 0.6))
    assert found.verdicts.tolist() == ["real", "real", "unsure", "unsure", "forged", "forged"]
    plain = decide(first, second, exit_real=0.1, exit_forged=0.9)
    assert np.array_equal(found.probs, plain.probs)
    assert set(plain.verdicts) == {"real", "forged"}


def test_one_network_alone_decides_at_one_half_and_nothing_is_deferred() -> None:
    found = decide_alone(np.array([0.0, 0.49, 0.5, 1.0]), name="maxvit@96")
    assert found.verdicts.tolist() == ["real", "real", "forged", "forged"]
    assert set(found.decided_by) == {"maxvit@96"}
    assert not found.deferred.any()


def test_what_can_not_be_decided_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"exit_real 0.6 must lie below exit_forged 0.6"):
        decide(FIRST, SECOND, exit_real=0.6, exit_forged=0.6)
    for first, second in (([0.5, 0.05], [np.nan, 0.5]), ([np.nan, 0.05], [0.9, 0.5])):
        with pytest.raises(ValueError, match="1 of 2 probabilities are NaN"):
            decide(np.array(first), np.array(second), exit_real=0.1, exit_forged=0.9)
