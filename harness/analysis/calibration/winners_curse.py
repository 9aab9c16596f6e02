"""The winner's curse: what choosing the best of many variants at one seed finds in pure noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.analysis.calibration.fixed_seeds import p_values
from harness.analysis.compare import analyse
from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Comparison
from harness.analysis.stats.selection import expected_best_of_noise
from harness.study.settings import AnalysisSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersCurse:
    """One study of pure noise, told in two ways, and how often each way is fooled.

    `apparent_gain` is how much better the best variant looks than the baseline at one seed,
    `fresh` the comparison of that variant with the baseline on fresh seeds, `verdicts` what the
    harness says of all variants on these seeds. The shares are over `repetitions` such studies.
    """

    variants: int
    seeds: int
    sigma: float
    best: str
    baseline_value: float
    best_value: float
    apparent_gain: float
    fresh: Comparison
    verdicts: dict[str, int]
    repetitions: int
    share_improved_at_one_seed: float
    mean_gain_in_sigmas: float
    expected_gain_in_sigmas: float
    share_with_a_claim: float

    def sentences(self) -> list[str]:
        """The story in the order in which it happens."""
        judged = ", ".join(f"{count} {word}" for word, count in self.verdicts.items())
        fresh = self.fresh
        assert fresh.mean_difference is not None
        return [
            f"{self.variants} variants that are all the baseline; noise {self.sigma:g} nats a run.",
            f"One seed each: the best is {self.best} with {self.best_value:.4f} against "
            f"{self.baseline_value:.4f}: an improvement of {self.apparent_gain:.4f} nats.",
            f"The same variant on {self.seeds} fresh seeds: a difference of "
            f"{fresh.mean_difference:+.4f} nats, {fresh.verdict}, p = {fresh.adjusted_p:.2f} "
            f"(adjusted for {self.variants}).",
            f"All variants on these seeds: {judged}.",
            f"Over {self.repetitions} such studies the best at one seed beats the baseline in "
            f"{100 * self.share_improved_at_one_seed:.1f} % of them and is "
            f"{self.mean_gain_in_sigmas:.2f} standard errors too good "
            f"(expected {self.expected_gain_in_sigmas:.2f}); the harness calls any variant better "
            f"or worse in {100 * self.share_with_a_claim:.1f} %.",
        ]


def winners_curse_demo(
    rng: np.random.Generator,
    *,
    variants: int = 19,
    seeds: int = 8,
    sigma: float = 0.003,
    baseline_loss: float = 3.28,
    repetitions: int = 10_000,
) -> WinnersCurse:
    """The best of many variants at one seed "improves" the baseline, on pure noise.

    Args:
        rng: draws the noise.
        variants: all equal to the baseline.
        seeds: fresh seeds that the harness gives to every variant.
        sigma: standard deviation of one run's final loss over seeds, in nats.
        repetitions: studies behind the shares.
    """
    names = [f"variant-{index:02d}" for index in range(1, variants + 1)]
    once = baseline_loss + sigma * rng.standard_normal(variants + 1)
    best = int(np.argmin(once[1:]))
    again = baseline_loss + sigma * rng.standard_normal((variants + 1, seeds))
    rows = [
        ResultRow(variant=name, seed=seed + 1, value=float(again[index, seed]))
        for index, name in enumerate(["baseline", *names])
        for seed in range(seeds)
    ]
    analysis = analyse(rows, AnalysisSettings(baseline="baseline", pairing="paired"))
    words = [comparison.verdict for comparison in analysis.comparisons]
    singles = rng.standard_normal((repetitions, variants + 1))
    lowest = singles[:, 1:].min(axis=1)
    judged = rng.standard_normal((repetitions, variants + 1, seeds))
    p = p_values(judged[:, 1:], judged[:, :1], design="paired")
    return WinnersCurse(
        variants=variants,
        seeds=seeds,
        sigma=sigma,
        best=names[best],
        baseline_value=float(once[0]),
        best_value=float(once[1 + best]),
        apparent_gain=float(once[0] - once[1 + best]),
        fresh=analysis.comparisons[best],
        verdicts={word: words.count(word) for word in dict.fromkeys(words)},
        repetitions=repetitions,
        share_improved_at_one_seed=float(np.mean(lowest < singles[:, 0])),
        mean_gain_in_sigmas=float(np.mean(-lowest)),
        expected_gain_in_sigmas=expected_best_of_noise(variants),
        share_with_a_claim=float(np.mean((p < analysis.settings.alpha / variants).any(axis=1))),
    )
