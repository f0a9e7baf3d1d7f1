"""How high a leak rate may be when scenes are independent and their rows are not.

A scene is a group: the crops of one photograph, the frames of one video. Its rows resemble one another by an unknown
amount, so a binomial bound over rows promises too much. What is bounded here is the **mean over scenes of the share of
a scene's rows that leak**: the rate of a row drawn from a scene that is drawn like those at hand, whatever the sizes
of the scenes. It is not the share of all rows, in which a scene with many rows would count for more; where all scenes
are of one size the two are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.metrics.discrimination import FloatArray, IntArray, check_size
from assay.metrics.intervals import LEVEL, check_groups, clopper_pearson

RISK = 1.0 - LEVEL  # that a bound fails, 5 %
# Parts of the capital that the bets risk, denser towards 1: those win most where little leaks.
STAKES = 1.0 - (1.0 - (np.arange(20) + 0.5) / 20) ** 2
# Correlations that are tried up to an assumed one, as parts of it: what is largest between them is not always the last.
CORRELATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
# From here on a bound is as good as none.
NEARLY_ONE = 1.0 - 1e-9


@dataclass(frozen=True)
class SceneLeaks:
    """What leaks in each scene: ``leaked`` of ``sizes`` rows, both int64 [G]."""

    leaked: IntArray
    sizes: IntArray

    @classmethod
    def of(cls, leaks: npt.ArrayLike, groups: npt.ArrayLike) -> SceneLeaks:
        """From rows: whether each leaks, bool [n], and its scene [n].

        ValueError if they do not fit each other or a row has no scene.
        """
        flags = np.asarray(leaks, dtype=bool)
        codes = check_groups(groups)
        check_size(flags, name="leaks", size=codes.size)
        sizes = np.bincount(codes)
        return cls(np.bincount(codes[flags], minlength=sizes.size), sizes)

    @property
    def rate(self) -> float:
        """Mean over scenes of the share that leaks, in 0..1: what the bounds bound."""
        return float(np.mean(self.leaked / self.sizes))

    @property
    def correlation(self) -> float:
        """How alike rows of one scene are in leaking: the intra-class correlation, by analysis of variance.

        About 0 for rows that are independent, 1 where a scene leaks wholly or not at all (Fleiss 1981, section 13.2;
        Ridout, Demetrio and Firth 1999). NaN where no scene has two rows, there is one scene, or all rows do the same.
        """
        rows, scenes = int(self.sizes.sum()), self.sizes.size
        if scenes < 2 or rows == scenes or self.leaked.sum() in (0, rows):
            return math.nan
        share, shares = self.leaked.sum() / rows, self.leaked / self.sizes
        between = float((self.sizes * (shares - share) ** 2).sum()) / (scenes - 1)
        within = float((self.leaked * (1 - shares)).sum()) / (rows - scenes)
        typical = (rows - (self.sizes**2).sum() / rows) / (scenes - 1)
        return float((between - within) / (between + (typical - 1) * within))

    def keeps(self, budget: float, *, correlation: float | None = None) -> bool:
        """Whether "the rate is ``budget`` or more" is rejected at 5 %: then less is certified.

        The other arguments and the method are those of `upper`.
        """
        if correlation is not None:
            return bool(_lower_tail(self.sizes, budget, correlation)[self.leaked.sum()] <= RISK)
        if (self.sizes == 1).all():
            return clopper_pearson(int(self.leaked.sum()), self.sizes.size, side="upper")[1] <= budget
        return log_evidence(self.leaked / self.sizes, budget) >= -math.log(RISK) - 1e-12

    def upper(self, *, correlation: float | None = None) -> float:
        """One-sided 95 % bound of the rate, in 0..1.

        Without ``correlation`` it takes scenes as independent and drawn from the same source, and nothing else: the
        largest rate that `log_evidence` does not reject; the exact binomial bound (Clopper and Pearson 1934) where
        every scene is a single row. With it, rows of a scene are taken to be beta-binomial with an intra-scene
        correlation of at most that: a smaller bound, which holds only if that is true.

        Raises ValueError if ``correlation`` does not lie in 0..1 (exclusive of 1).
        """
        from scipy.optimize import brentq

        total, rows = int(self.leaked.sum()), int(self.sizes.sum())
        if total == rows:
            return 1.0
        if correlation is not None:
            start = max(total / rows, 1e-12)

            def excess(rate: float) -> float:
                return RISK - float(_lower_tail(self.sizes, rate, correlation)[total])

        elif (self.sizes == 1).all():
            return clopper_pearson(total, rows, side="upper")[1]
        else:
            rates, start = self.leaked / self.sizes, max(self.rate, 1e-12)

            def excess(rate: float) -> float:
                return log_evidence(rates, rate) + math.log(RISK)

        if excess(start) >= 0:
            return start
        return float(brentq(excess, start, NEARLY_ONE)) if excess(NEARLY_ONE) > 0 else 1.0


def log_evidence(rates: FloatArray, budget: float) -> float:
    """Log of an e-value against "the mean of ``rates`` [G] in 0..1 is ``budget`` or more"; 5 % rejects at log 20.

    Capital that bets on small rates (Waudby-Smith and Ramdas 2024, JRSS B 86(1), section 4): a bettor who stakes the
    part s has after all scenes prod(1 - s + s (1 - rate) / (1 - budget)), which is worth at most 1 on average if the
    hypothesis is true, so that it reaches 20 with a probability of at most 5 % (Markov). Several bettors share the
    capital. The one that stakes all has (1 - budget)^-G if nothing leaks: as much of the capital goes to it as makes
    that 20, so that G scenes without a leak certify 1 - 0.05^(1/G), the least that is possible, and the rest to
    `STAKES`. Neither the order of scenes nor a seed counts, and a larger rate or a smaller budget never gives more
    evidence: so a sequence of thresholds may be tested from strict to generous, each at 5 %, until one fails
    (fixed-sequence Learn-then-Test, Angelopoulos et al. 2021; Bates et al. 2021).
    """
    from scipy.special import logsumexp

    scenes, kept = len(rates), 1.0 - np.asarray(rates, dtype=np.float64)
    growth = kept / (1.0 - budget)
    log_share = min(0.0, scenes * math.log1p(-budget) - math.log(RISK))
    with np.errstate(divide="ignore"):
        all_in = log_share + float(np.log(growth).sum())
        log_rest = float(np.log(-np.expm1(log_share)))
    bets = np.log((1.0 - STAKES)[:, None] + STAKES[:, None] * growth).sum(axis=1)
    return float(np.logaddexp(all_in, log_rest + logsumexp(bets) - math.log(len(STAKES))))


def _lower_tail(sizes: IntArray, rate: float, correlation: float) -> FloatArray:
    """P(at most k leaks in all), float64 [N + 1] for k = 0 .. N, largest over correlations up to ``correlation``.

    Each scene's leaks are beta-binomial with mean ``rate`` and intra-class correlation 1 / (alpha + beta + 1), the
    scenes independent.
    """
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.stats import betabinom, binom

    if not 0.0 <= correlation < 1.0:
        raise ValueError(f"correlation must lie in 0..1 (exclusive of 1), got {correlation}; None assumes nothing")
    total = int(sizes.sum())
    tails = []
    for value in sorted({part * correlation for part in CORRELATIONS}):
        if value == 0.0:
            tails.append(binom.cdf(np.arange(total + 1), total, rate))
            continue
        strength, length = 1.0 / value - 1.0, next_fast_len(total + 1, real=True)
        spectrum = np.ones(length // 2 + 1, dtype=np.complex128)
        for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
            one = betabinom.pmf(np.arange(size + 1), size, rate * strength, (1.0 - rate) * strength)
            spectrum *= rfft(one, length) ** count
        tails.append(np.cumsum(irfft(spectrum, length)[: total + 1]))
    return np.max(tails, axis=0)


def scenes_to_certify(rate: float, *, rows: int = 1, correlation: float | None = None) -> int:
    """Smallest number of scenes that certify ``rate`` at 95 % if none of their rows leaks.

    Without an assumption that is the smallest G with 1 - 0.05^(1/G) <= rate: 59 for 5 %, 299 for 1 %, 2,995 for 0.1 %,
    however many rows a scene has. With an intra-scene ``correlation``, scenes of ``rows`` rows are taken to be
    beta-binomial, as in `SceneLeaks.upper`. ValueError if ``rate`` is not in (0, 1).
    """
    from scipy.stats import betabinom

    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate must lie in (0, 1), got {rate}; write 0.01 for 1 %")
    if not correlation:
        log_none = math.log1p(-rate) * (1 if correlation is None else rows)
    else:
        strength = 1.0 / correlation - 1.0
        log_none = float(betabinom.logpmf(0, rows, rate * strength, (1.0 - rate) * strength))
    # Rounding noise must not lift an exact integer (rate = 0.95 gives 1) to the next one.
    return max(1, math.ceil(math.log(RISK) / log_none * (1.0 - 1e-12)))
