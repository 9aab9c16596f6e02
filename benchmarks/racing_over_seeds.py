"""What racing over tuning seeds would save and find: Optuna's WilcoxonPruner on simulated searches.

    python benchmarks/racing_over_seeds.py

A configuration whose losses on the seeds so far are significantly above those of the best one is
not trained on the remaining seeds. Searches of two settings, whose loss is a parabola in the
logarithm of both; the noise of a run is what a seed does not add to every configuration alike.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.pruners import WilcoxonPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

SPACE = {"lr": FloatDistribution(0.0, 1.0), "weight_decay": FloatDistribution(0.0, 1.0)}
CURVATURE = (0.02 * math.log(100) ** 2, 0.005 * math.log(20) ** 2)
"""Nats over the whole of a space that spans a factor 100, and one of 20."""
SEARCHES = 400
DESIGNS = (
    (64, 1, None),
    (32, 2, None),
    (32, 2, 0.1),
    (16, 4, None),
    (16, 4, 0.1),
    (12, 5, 0.1),
    (8, 8, None),
    (12, 8, 0.1),
    (16, 8, 0.1),
)
"""Configurations, seeds, and the p below which a configuration is given up."""


def search(
    rng: np.random.Generator, *, trials: int, seeds: int, p: float | None, noise: float
) -> tuple[float, int]:
    """The distance of the chosen configuration's true loss from the optimum, and what it cost."""
    optimum = rng.uniform(0.3, 0.7, size=2)
    pruner = WilcoxonPruner(p_threshold=p or 0.0)
    study = optuna.create_study(sampler=RandomSampler(int(rng.integers(2**31))), pruner=pruner)
    runs, best = 0, (math.inf, math.inf)
    for _ in range(trials):
        trial = study.ask(SPACE)
        point = np.array([trial.params[name] for name in SPACE])
        regret = float(np.array(CURVATURE) @ (point - optimum) ** 2)
        losses = []
        for seed in range(seeds):
            losses.append(regret + noise * rng.normal())
            trial.report(losses[-1], seed)
            if p is not None and seed + 1 < seeds and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(np.mean(losses)))
            best = min(best, (float(np.mean(losses)), regret))
        runs += len(losses)
    return best[1], runs


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("noise  configurations x seeds  race p  training runs  chosen above the optimum (nats)")
    for noise in (0.004, 0.02):
        for trials, seeds, p in DESIGNS:
            rng = np.random.default_rng(0)
            found = [
                search(rng, trials=trials, seeds=seeds, p=p, noise=noise) for _ in range(SEARCHES)
            ]
            regret, runs = np.mean(found, axis=0)
            race, planned = "-" if p is None else f"{p:g}", trials * seeds
            print(
                f"{noise:<6g} {trials:>10} x {seeds:<10} {race:>7} {runs:>9.1f} of {planned:<4}"
                f" {regret:.4f}"
            )


if __name__ == "__main__":
    main()
