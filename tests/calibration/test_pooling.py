"""Log-linear pooling: what it leaves as it is, and its weights against scikit-learn and temperature scaling."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from assay.calibration.pooling import fit_weights, pool
from assay.calibration.temperature import fit_temperature


def members(*, number: int = 2, num_classes: int = 2, n: int = 600) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, n)
    signal = 1.5 * np.eye(num_classes)[labels]
    noisy = [(1 + k) * (signal + 1.5 * rng.standard_normal((n, num_classes))) for k in range(number)]
    return [log_softmax(scores, axis=1) for scores in noisy], labels


def test_one_member_with_weight_one_is_itself() -> None:
    (member,), _ = members(number=1, num_classes=4)
    assert np.allclose(pool([member], [1.0]), member, atol=1e-12)


def test_it_is_the_normalised_product_of_powers() -> None:
    (first, second), _ = members(num_classes=3)
    product = np.exp(first) ** 0.3 * np.exp(second) ** 1.7
    assert np.allclose(np.exp(pool([first, second], [0.3, 1.7])), product / product.sum(axis=1, keepdims=True))
    with pytest.raises(ValueError, match="zip"):
        pool([first, second], [1.0])


def test_two_members_weights_are_a_logistic_regression() -> None:
    both, labels = members()
    features = np.stack([member[:, 1] - member[:, 0] for member in both], axis=1)
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(features, labels)
    assert (regression.coef_[0] > 0.1).all()
    assert fit_weights(both, labels) == pytest.approx(regression.coef_[0].tolist(), abs=2e-3)


def test_one_members_weight_is_the_inverse_temperature() -> None:
    (_, sharp), labels = members()
    (weight,) = fit_weights([sharp], labels)
    temperature = fit_temperature(sharp[:, 1] - sharp[:, 0], labels).temperature
    assert temperature > 1.2
    assert 1 / weight == pytest.approx(temperature, rel=2e-3)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_useless_or_contrary_member_gets_no_weight(num_classes: int) -> None:
    (good,), labels = members(number=1, num_classes=num_classes, n=3000)
    rng = np.random.default_rng(1)
    useless = log_softmax(2 * rng.standard_normal(good.shape), axis=1)
    contrary = log_softmax(-good, axis=1)
    for_good, for_useless = fit_weights([good, useless], labels)
    assert for_good > 0.5
    assert for_useless < 0.05
    weights = fit_weights([contrary, useless], labels)
    assert weights[0] == 0
    assert min(weights) >= 0


def test_weights_lower_the_loss_of_every_other_choice() -> None:
    both, labels = members(num_classes=3)
    rows = np.arange(len(labels))

    def loss(weights: list[float]) -> float:
        return float(-pool(both, weights)[rows, labels].mean())

    found = fit_weights(both, labels)
    for change in ([0.01, 0], [-0.01, 0], [0, 0.01], [0, -0.01]):
        assert loss(found) < loss([a + b for a, b in zip(found, change, strict=True)])
    assert found == [round(weight, 4) for weight in found]
