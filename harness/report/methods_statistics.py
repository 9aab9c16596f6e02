"""The statistics of a methods paragraph: how the comparisons of a study were judged."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.results import Comparison
from harness.analysis.study_results import StudyResults
from harness.report.prose import listing


def statistics_sentences(study: StudyResults) -> Iterator[str]:
    """Pairs, tests, intervals, margin and looks of the comparisons that were made."""
    comparisons = study.comparisons
    if not comparisons:
        if study.challengers:
            yield "No comparison has been made yet."
        return
    yield from _pairing(study)
    yield from _tests(study)
    yield from _intervals(study)
    yield from _margin(study)
    yield from _looks(study)
    yield (
        "As a check that assumes no distribution, the p values of exact permutation tests "
        "(sign flips of pairs, or relabelling) stand beside each verdict."
    )


def _pairing(study: StudyResults) -> Iterator[str]:
    found = list(study.comparisons)
    certified = [c for c in found if c.paired and c.pairing_certified]
    asked = [c for c in found if c.paired and not c.pairing_certified]
    unpaired = [c for c in found if not c.paired]
    # A stated noise is that of one run: what pairs would gain is not known of it.
    known_noise = study.settings.analysis.sigma is not None
    use = "the z test does not use it" if known_noise else "they are compared as pairs"
    if certified:
        yield (
            f"{_sentence(_of(certified, found) + 'runs')} of the same seed began with the same "
            f"parameters and read the same batches, as hashes prove; {use}."
        )
    if asked:
        yield (
            f"{_sentence(_of(asked, found) + 'runs')} of the same seed are compared as pairs, as "
            "the plan asked for, though no hash proves that they began alike."
        )
    if unpaired:
        yield f"{_sentence(_of(unpaired, found) + 'seeds')} are not paired."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _of(some: list[Comparison], of_all: list[Comparison]) -> str:
    """For which variants a sentence holds, to begin it with; nothing where it holds for all."""
    return "" if len(some) == len(of_all) else f"for {listing([c.variant for c in some])}, "


def _tests(study: StudyResults) -> Iterator[str]:
    """How the differences were tested, each way once with the variants that it was used for."""
    comparisons = list(study.comparisons)
    used: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        used.setdefault(_test_of(study, comparison), []).append(comparison)
    for how, found in used.items():
        yield f"{_sentence(_of(found, comparisons) + how)}."


def _test_of(study: StudyResults, comparison: Comparison) -> str:
    if comparison.mean_difference is None:
        text = (
            "not every run has a final loss: the joint ranks of all runs were compared by an "
            "exact permutation test, diverged runs last [@conover1981, @lachin1999]"
        )
        runs = [trial for side in study.compared(comparison.variant) for trial in side]
        if all(trial.state in ("completed", "diverged") for trial in runs):
            text += (
                ", and the risks of divergence by Boschloo's exact test [@boschloo1970]; the "
                "smaller p was doubled"
            )
        return text
    if comparison.statistic is None:
        return (
            "the differences have no spread over the seeds and so no t statistic: the p is that "
            "of the exact sign-flip test, or 1 where nothing varied"
        )
    if study.settings.analysis.sigma is not None:
        return (
            "differences of mean final losses were judged by a z test with the standard deviation "
            f"of one run, {study.settings.analysis.sigma:g} nats, stated beforehand"
        )
    if comparison.paired:
        return "differences of mean final losses were tested by a paired t test [@student1908]"
    return "differences of mean final losses were tested by Welch's t test [@welch1947]"


def _intervals(study: StudyResults) -> Iterator[str]:
    several = len(study.comparisons)
    if not any(comparison.interval for comparison in study.comparisons):
        if several > 1:
            yield f"The {several} comparisons share alpha evenly (Bonferroni) [@dunn1961]."
        return
    share = f"{100 * study.level:.4g} %"
    if several == 1:
        yield f"The verdict is read from the {share} interval of the difference."
    else:
        yield (
            f"Verdicts are read from simultaneous intervals, which hold together for all {several} "
            f"comparisons at {share} (Bonferroni) [@dunn1961]."
        )
    yield (
        "A configuration is called better (worse) where its interval lies below (above) zero, and "
        "inconclusive where nothing follows from the interval."
    )


def _margin(study: StudyResults) -> Iterator[str]:
    settings = study.settings.analysis
    margin = study.analysis.margin if study.analysis else None
    if margin is None:
        yield "No margin was stated: equivalence was not tested."
        return
    how = ""
    if settings.margin_speedup_percent is not None:
        how = (
            f", which a speed-up of {settings.margin_speedup_percent:g} % is worth by the losses "
            f"of {study.baseline}"
        )
    yield (
        f"The plan declares that differences within {margin:.3g} nats{how} do not matter: a "
        "configuration is equivalent where its interval lies within that margin [@schuirmann1987], "
        "and better or worse by the margin where it lies beyond."
    )


def _looks(study: StudyResults) -> Iterator[str]:
    looks = study.settings.analysis.looks
    if not looks:
        return
    bounds = "bounds calibrated by simulation for t statistics of so few seeds"
    if study.settings.analysis.sigma is not None:
        bounds = "bounds for normal statistics"
    yield (
        f"Seeds were added in steps: looks at {listing(list(map(str, looks)))} seeds were declared "
        "in the plan and spend the error as O'Brien and Fleming's bounds do [@obrien1979, "
        f"@lan1983], with {bounds}. A comparison that is decided is not read again."
    )


def target_sentences(study: StudyResults) -> Iterator[str]:
    """How the means were compared with a target, if the study named one."""
    if not study.targets:
        return
    several = len(study.targets)
    together = f"; the upper bounds hold together for all {several} means" if several > 1 else ""
    yield (
        f"Each mean was compared with the target of {study.targets[0].target:g} nats, fixed in the "
        f"plan, by a one-sided t test [@student1908]{together}."
    )
