"""Folders of studies with made-up results, written through the same classes as real ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from made_up_attempts import write_attempts
from numpy.typing import NDArray

from harness.analysis.search.selection import best_of
from harness.analysis.search.summary import summarise_search
from harness.runs.attempts import AttemptEnd
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.runs.search_log import Chosen, SearchLog, Suggested, chosen_points
from harness.runs.snapshot import load_snapshot
from harness.study.plan import Plan, PlannedTrial, expand, make_plan, with_chosen
from harness.study.study_file import Study, VariantConfig
from harness.study.trial import TrialSpec, tuning_spec
from harness.training.records import ExpertActivity, Outcome, Report
from tune.search.samplers import draw_points

DATA_SHA256 = hashlib.sha256(b"data").hexdigest()
LAYERS, EXPERTS = 4, 8
Cell = tuple[str, int]
END = 3.2 + 4.4 * math.exp(-3.4)
FLOOR, EXPONENT = 2.5, 0.5


def cell_of(trial: PlannedTrial) -> Cell:
    name = trial.variant if trial.steps is None else f"{trial.variant} at {trial.steps}"
    return name, trial.seed


@dataclass(kw_only=True)
class MadeUpStudy:
    """Which variants and seeds a folder pretends to have trained, and how they ended.

    `effects` is added to the final loss of a variant; a variant that it does not name gets 0. Over
    the `horizons` of `analysis` the baseline's final losses follow `law`, with the noise of a run.
    In `diverged`, `failed` and `unfinished` the baseline at 60 steps is called `adamw at 60`.
    `leaks`, where it names a variant, is what a leaked loss of it would have been lower by.
    `ends` says how attempts ended before the last one; an unfinished trial has no attempt after.
    """

    variants: Mapping[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "adamw": {"kind": "adamw", "lr": 0.004},
            "muon": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004},
        }
    )
    effects: Mapping[str, float] = field(default_factory=lambda: {"muon": -0.05})
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 120
    every: int = 10
    diverged: Mapping[Cell, int] = field(default_factory=dict)
    failed: Mapping[Cell, str] = field(default_factory=dict)
    unfinished: frozenset[Cell] = frozenset()
    ends: Mapping[Cell, tuple[AttemptEnd, ...]] = field(default_factory=dict)
    analysis: dict[str, Any] = field(default_factory=dict)
    leaks: Mapping[str, float] = field(default_factory=dict)
    name: str = "made-up"
    question: str = "Does Muon reach a lower validation loss than AdamW at equal tokens?"

    def study(self) -> Study:
        return Study.model_validate(
            {
                "name": self.name,
                "question": self.question,
                "data": {"leaked_windows": 64} if self.leaks else {},
                "model": {"size": "tiny"},
                "training": {
                    "steps": self.steps,
                    "batch_size": 16,
                    "evaluation_every": self.every,
                },
                "resources": {"workers": 2},
                "seeds": {"confirmation": self.seeds},
                "variants": [
                    {"name": name, "optimizer": optimizer}
                    for name, optimizer in self.variants.items()
                ],
                "analysis": {"baseline": next(iter(self.variants)), **self.analysis},
            }
        )

    def law(self, steps: float) -> float:
        """The mean final loss of a variant without an effect after a schedule of so many steps."""
        return FLOOR + (END - FLOOR) * (steps / self.steps) ** -EXPONENT

    def write(self, runs_dir: Path) -> StudyFolder:
        """The whole folder as a finished (or interrupted) study leaves it."""
        study = self.study()
        plan, specs = make_plan(study, DATA_SHA256), expand(study, DATA_SHA256)
        folder = StudyFolder(runs_dir / self.name)
        source = runs_dir / "source.toml"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"# a made-up study\n{json.dumps(self.name)}\n")
        freeze(folder, plan, source=source)
        write_json(folder.environment_path, ENVIRONMENT)
        write_json(folder.path / "data.json", {"source": "made up", "train": {"tokens": 10**6}})
        for trial in {trial.key: trial for trial in plan.trials}.values():
            self.train(folder, plan, trial, specs[trial.key])
        return folder

    def train(
        self, folder: StudyFolder, plan: Plan, trial: PlannedTrial, spec: TrialSpec, salt: int = 0
    ) -> None:
        """Pretends to train one trial."""
        cell = cell_of(trial)
        target = folder.trial(trial.key)
        if cell in self.unfinished and trial.seed != min(self.seeds):
            write_attempts(target, ends=self.ends.get(cell, ()), steps=self.steps)
            return
        target.start(spec)
        ends = (*self.ends.get(cell, ()), "stopped" if cell in self.unfinished else "outcome")
        write_attempts(target, ends=ends, steps=trial.steps or self.steps)
        if cell in self.failed:
            target.finish(
                Outcome(outcome="failed", reason=self.failed[cell], wall_time_s=3.0 + salt)
            )
            return
        reports = self.reports(trial, plan, salt=salt)
        for report in reports:
            target.append(report)
        if cell not in self.unfinished:
            target.finish(self.outcome(trial, reports[-1]))

    def reports(self, trial: PlannedTrial, plan: Plan, *, salt: int = 0) -> list[Report]:
        names = list(self.variants)
        length = trial.steps or self.steps
        if trial.steps is not None:
            salt += trial.steps  # another run has noise of its own
        common = np.random.default_rng(trial.seed)
        own = np.random.default_rng([trial.seed, names.index(trial.variant), salt])
        effect = self.effects.get(trial.variant, 0.0) + 0.004 * own.normal()
        effect += self.law(length) - END
        luck, end = 0.03 * common.normal(), self.diverged.get(cell_of(trial))
        step_time_s = 0.11 + 0.02 * names.index(trial.variant) + 0.003 * own.random()
        made = []
        for step in sorted({*range(0, length, self.every), length}):
            done = step / length
            loss = 3.2 + 4.4 * math.exp(-3.4 * done) + (luck + effect) * min(1.0, 2 * done)
            lost = end is not None and step >= end
            made.append(
                self._report(step, None if lost else loss, step_time_s, own, plan.study, trial)
            )
            if lost:
                break
        return made

    def _report(
        self,
        step: int,
        loss: float | None,
        step_time_s: float,
        rng: np.random.Generator,
        study: dict[str, Any],
        trial: PlannedTrial,
    ) -> Report:
        tokens_per_step = study["training"]["batch_size"] * study["data"]["sequence_length"]
        load = rng.dirichlet([4.0] * EXPERTS, size=LAYERS)
        counters = {"newton_schulz_calls": 12.0 * step} if trial.variant != "adamw" else {}
        return Report(
            step=step,
            tokens=step * tokens_per_step,
            train_loss=None if loss is None or step == 0 else loss - 0.05,
            validation_loss=loss,
            validation_accuracy=0.0 if loss is None else max(0.0, 0.6 - 0.08 * loss),
            learning_rate=0.01 * (1 - step / ((trial.steps or self.steps) + 1)),
            gradient_norm=None if step == 0 else 1.0 + rng.random(),
            train_time_s=step_time_s * max(0, step - 1),
            step_time_s=None if step == 0 else step_time_s,
            tokens_per_s=None if step == 0 else tokens_per_step / step_time_s,
            evaluation_time_s=0.4 * (1 + step / self.every),
            startup_time_s=0.0 if step == 0 else 1.7,
            peak_memory_bytes=700 * 2**20,
            router_load=load.tolist(),
            dead_experts=int((load < 0.005).sum()),
            leaked_loss=None
            if loss is None or trial.variant not in self.leaks
            else loss - self.leaks[trial.variant] - 0.01 * rng.random(),
            counters=counters | {"update_bytes": 1e6 * step},
            experts=_activity(load, tokens=self.every * tokens_per_step) if step else None,
        )

    def outcome(self, trial: PlannedTrial, last: Report) -> Outcome:
        at = self.diverged.get(cell_of(trial))
        start = hashlib.sha256(f"start {trial.seed}".encode()).hexdigest()
        return Outcome(
            outcome="completed" if at is None else "diverged",
            reason=None if at is None else f"the loss diverged at step {at}",
            step=last.step,
            tokens=last.tokens,
            validation_loss=last.validation_loss,
            validation_accuracy=last.validation_accuracy,
            diverged_at_step=at,
            initial_parameters_sha256=start,
            batches_sha256=hashlib.sha256(f"batches {trial.seed}".encode()).hexdigest(),
            num_parameters=1_250_000,
            routes=ROUTES,
            wall_time_s=last.train_time_s + last.evaluation_time_s + last.startup_time_s + 0.3,
        )


def _activity(load: NDArray[np.float64], *, tokens: int) -> ExpertActivity:
    """An expert of less than a fiftieth of the load starves; all move by a fifth of it."""
    assignments = np.where(load < 0.02, 0, load * tokens).astype(int)
    return ExpertActivity(tokens=assignments.tolist(), movement=(load / 5).tolist())


@dataclass(kw_only=True)
class MadeUpSearch(MadeUpStudy):
    """A study with [tuning] whose loss depends on the learning rate: best at `OPTIMAL`.

    A rate above 8 times the optimum diverges. `unchosen` ends the folder before the choice.
    """

    spaces: Mapping[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "adamw": {"lr": {"kind": "loguniform", "low": 0.0005, "high": 0.05}},
            "muon": {
                "lr": {"kind": "loguniform", "low": 0.004, "high": 0.2},
                "aux_lr": {"kind": "loguniform", "low": 0.001, "high": 0.02},
            },
        }
    )
    tuning: dict[str, Any] = field(default_factory=lambda: {"trials": 8})
    tuning_seeds: tuple[int, ...] = (100, 101)
    unchosen: bool = False
    name: str = "made-up-search"

    def study(self) -> Study:
        values = super().study().model_dump(mode="json")
        values["seeds"]["tuning"] = self.tuning_seeds
        values["tuning"] = self.tuning
        for variant in values["variants"]:
            variant["space"] = self.spaces[variant["name"]]
        return Study.model_validate(values)

    def write(self, runs_dir: Path) -> StudyFolder:
        folder, study = super().write(runs_dir), self.study()
        assert study.tuning is not None
        for index, variant in enumerate(study.variants):
            settings = study.tuning
            points = draw_points(
                variant.space, searcher=settings.searcher, count=settings.trials, seed=index
            )
            for number, point in enumerate(points):
                self._search(folder, study, variant, number, point)
        if not self.unchosen:
            self._confirm(folder, study)
        return folder

    def _search(
        self,
        folder: StudyFolder,
        study: Study,
        variant: VariantConfig,
        number: int,
        point: dict[str, Any],
    ) -> None:
        specs = {
            seed: tuning_spec(study, variant, point, seed=seed, data_sha256=DATA_SHA256)
            for seed in self.tuning_seeds
        }
        keys = {seed: spec.key for seed, spec in specs.items()}
        event = Suggested(variant=variant.name, round=0, index=number, point=point, keys=keys)
        SearchLog(folder.path).append(event)
        for seed, spec in specs.items():
            row = PlannedTrial(variant=variant.name, phase="tuning", seed=seed, key=spec.key)
            self.train(folder, load_plan(folder), row, spec, salt=number)

    def _confirm(self, folder: StudyFolder, study: Study) -> None:
        search = summarise_search(load_snapshot(folder))
        assert search is not None
        for name, found in search.variants.items():
            best = best_of(found.configurations)
            chosen = {"index": best.index, "point": best.point} if best else {"point": {}}
            SearchLog(folder.path).append(Chosen(variant=name, **{"index": None, **chosen}))
        plan = load_plan(folder)
        specs = expand(
            with_chosen(study, chosen_points(SearchLog(folder.path).events())), DATA_SHA256
        )
        for trial in plan.trials:
            if trial.phase != "tuning":
                self.train(folder, plan, trial, specs[trial.key])

    def train(
        self, folder: StudyFolder, plan: Plan, trial: PlannedTrial, spec: TrialSpec, salt: int = 0
    ) -> None:
        optimum, rate = OPTIMAL[spec.optimizer.kind], spec.optimizer.lr
        base, cell = self.effects, cell_of(trial)
        loss = base.get(trial.variant, 0.0) + 0.02 * math.log(rate / optimum) ** 2
        self.effects = {**base, trial.variant: loss}
        self.diverged = {cell: 60} if rate > 8 * optimum else {}
        super().train(folder, plan, trial, spec, salt=salt)
        self.effects = base


OPTIMAL = {"adamw": 0.004, "muon": 0.02}
ENVIRONMENT = {
    "python": "3.11.9",
    "hostname": "machine",
    "cpu": "a processor",
    "gpus": [],
    "torch": {"version": "2.13.0"},
    "packages": {"numpy": "2.4.6", "torch": "2.13.0"},
}
ROUTES = [
    {
        "name": "layers.0.experts.up.weight",
        "shape": [8, 256, 64],
        "algorithm": "muon",
        "group": "muon",
        "reason": "a matrix of a hidden layer",
        "matrices": [{"rows": 256, "columns": 64}] * 8,
    },
    {
        "name": "embedding.weight",
        "shape": [2048, 64],
        "algorithm": "adamw",
        "group": "adamw",
        "reason": "an embedding",
        "matrices": [],
    },
]


EVENTFUL: dict[str, Any] = {
    "variants": {
        "adamw": {"kind": "adamw", "lr": 0.004},
        "muon": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004},
        "muon-slow": {"kind": "muon", "lr": 0.005, "aux_lr": 0.004},
        "muon-hot": {"kind": "muon", "lr": 0.2, "aux_lr": 0.004},
        "adamw-high": {"kind": "adamw", "lr": 0.006},
    },
    "effects": {"muon": -0.05, "muon-slow": 0.02, "muon-hot": -0.02, "adamw-high": 0.0005},
    "diverged": {("muon-hot", 3): 60},
    "failed": {("muon-slow", 1): "worker 1 died: <signal 9> | out of luck"},
    "analysis": {"margin_nats": 0.02},
}
