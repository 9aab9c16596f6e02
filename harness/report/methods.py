"""The methods paragraph of a study, for a paper: what was done, and only that.

Every sentence is made from the frozen plan and from what became of it. A citation such as
` [@dunn1961]` stands in the sentence that needs it, so that only methods in use are cited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.analysis.shrinkage import not_tuned
from harness.analysis.study_results import StudyResults
from harness.report.methods_statistics import statistics_sentences, target_sentences
from harness.report.methods_training import NAMED, data_sentences, training_sentences
from harness.report.prose import listing, plural
from harness.runs.attempt_story import latest_history


def methods_paragraphs(study: StudyResults) -> tuple[str, ...]:
    """Training, data, choice of hyperparameters, statistics, software; citations as keys."""
    parts: tuple[Iterable[str], ...] = (
        training_sentences(study),
        data_sentences(study),
        _search(study),
        _runs(study),
        statistics_sentences(study),
        target_sentences(study),
        _software(study),
    )
    joined = (" ".join(sentences) for sentences in parts)
    return tuple(paragraph for paragraph in joined if paragraph)


# Choice of hyperparameters


SEARCHERS = {
    "random": "random search [@bergstra2012]",
    "quasi_random": "quasi-random search over a scrambled Sobol' sequence [@sobol1967]",
    "tpe": "the tree-structured Parzen estimator [@bergstra2011]",
    "grid": "grid search",
}


def _search(study: StudyResults) -> Iterator[str]:
    settings, found = study.settings.tuning, study.search
    if settings is None or found is None:
        yield (
            "No hyperparameter was searched: every configuration ran with the settings of the "
            "study file."
        )
        return
    spent = [variant.ledger for variant in found.variants.values()]
    configurations = _range([ledger.configurations for ledger in spent])
    runs = _range([ledger.training_runs for ledger in spent])
    yield (
        f"The hyperparameters of each variant were chosen by {SEARCHERS[settings.searcher]}: "
        f"{configurations} configurations and {runs} training runs of each, failed ones included, "
        f"on {plural(len(study.settings.seeds.tuning), 'seed')} that took no further part."
    )
    if settings.steps is not None and settings.steps != study.settings.training.steps:
        yield f"The runs of the search were {settings.steps} steps long."
    if settings.asha is not None:
        yield (
            "Bad configurations were stopped early by asynchronous successive halving "
            "[@li2020asha], within a variant and not before "
            f"{100 * settings.asha.grace_fraction:.0f} % of its steps."
        )
    if kept := [variant.name for variant in study.settings.variants if not variant.tuned]:
        yield f"{listing(kept)} took no part in the search and kept the settings of the study file."
    if untuned := [v.name for v in study.settings.searched if not_tuned(study, v.name)]:
        yield (
            f"The best value of {listing(untuned)} may lie outside of the space that was searched, "
            "or the search is not finished."
        )


def _range(values: Sequence[int]) -> str:
    """`16`, or `12 to 16`."""
    return " to ".join(str(value) for value in sorted({min(values), max(values)}))


# Runs and pairs


def _runs(study: StudyResults) -> Iterator[str]:
    trials = study.confirmation
    if not trials:
        return
    amended = ""
    if study.amendments:
        amended = f"; the plan was changed later ({plural(len(study.amendments), 'amendment')})"
    late = [addition for addition in study.additions if addition.measured]
    if late:
        what = "; ".join(addition.added.words for addition in late)
        amended += f"; added when first results were there: {what}"
    yield (
        f"Every configuration was to be run with {plural(len(study.seeds), 'seed')}. Seeds, "
        f"baseline and the rules of the analysis were fixed before the first run{amended}."
    )
    if not study.complete:
        yield f"So far {study.finished} of {len(trials)} planned runs have ended."
    states = [trial.state for trial in trials if trial.outcome is not None]
    lost = {word: states.count(word) for word in dict.fromkeys(states) if word != "completed"}
    if lost:
        words = listing([f"{count} {LOST[word]}" for word, count in lost.items()])
        yield f"Of {plural(len(states), 'run')}, {words}; none was left out."
    elif states:
        yield f"All {plural(len(states), 'run')} that ended reached the last step."
    yield from _resumed(study)


def _resumed(study: StudyResults) -> Iterator[str]:
    """Which runs went on from a checkpoint, and what that changes."""
    ended = [trial for trial in study.confirmation if trial.outcome is not None]
    kinds = study.trained_on
    resumed = [
        trial
        for trial in ended
        if any(a.began and a.began.resumed_step for a in latest_history(trial.attempts))
    ]
    if not resumed:
        return
    yield (
        f"{len(resumed)} of {len(ended)} runs were interrupted and went on from a checkpoint, "
        "which gives the numbers of an undisturbed run bit for bit with the same number of workers "
        "on the same kind of device."
    )
    names = study.trial_names()
    other = [
        names[trial.planned]
        for trial in resumed
        if len({(kind.workers, kind.device) for kind in kinds[trial.key]}) > 1
    ]
    if other:
        yield (
            f"The number of workers or the device changed in {_some(other)}: there the numbers are "
            "the same to rounding only."
        )


def _some(names: Sequence[str]) -> str:
    """All of them, or the first few and how many more."""
    more = len(names) - NAMED
    return listing(names if more <= 0 else [*names[:NAMED], f"{more} more"])


LOST = {
    "diverged": "diverged",
    "failed": "failed",
    "stopped": "stopped early",
    "out_of_memory": "ran out of memory",
}


# Software


PACKAGES = {
    "torch": "PyTorch",
    "accelerate": "Accelerate",
    "deepspeed": "DeepSpeed",
    "numpy": "NumPy",
    "scipy": "SciPy",
    "optbench": "optbench",
}
"""What a reader would ask the version of."""


def _software(study: StudyResults) -> Iterator[str]:
    environment: Mapping[str, Any] = study.environment or {}
    packages = {name.lower(): version for name, version in environment.get("packages", {}).items()}
    uses_deepspeed = study.settings.training.backend == "deepspeed"
    used = [
        name for name in PACKAGES if name in packages and (name != "deepspeed" or uses_deepspeed)
    ]
    versions = [f"{PACKAGES[name]} {packages[name]}" for name in used]
    if "python" in environment:
        versions.insert(0, f"Python {environment['python']}")
    if versions:
        yield f"Versions: {listing(versions)}."
    if study.comparisons or study.targets:
        yield "The tests are those of SciPy [@virtanen2020]."
