"""What a person sees while the trials of a suite run: how far each task is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from harness.cli.progress import Progress
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.runs.search_log import SearchLog, Widened
from harness.study.study_file import Study
from harness.training.records import Outcome


def expected(study: Study, folder: StudyFolder) -> tuple[int, int]:
    """Trials of a study that are done, and how many there will be: more if spaces are widened."""
    plan = load_plan(folder)
    search = {trial.key for trial in plan.trials if trial.phase == "tuning"}
    measuring = {trial.key for trial in plan.trials if trial.phase != "tuning"}
    searched, measured = len(search), len(measuring)
    if study.tuning is not None:
        events = SearchLog(folder.path).events()
        rounds = 1 + max((event.round for event in events if isinstance(event, Widened)), default=0)
        points = sum(study.tuning.trials_in_round(index) for index in range(rounds))
        searched = max(searched, points * len(study.searched) * len(study.seeds.tuning))
    if not measured:  # the search is not over
        runs = len(study.variants) + len(study.analysis.horizons)
        measured = runs * len(study.seeds.confirmation)
    done = sum(folder.trial(key).outcome() is not None for key in search | measuring)
    return done, searched + measured


class SuiteProgress(Progress):
    """Follows the trials of all tasks.

    Args:
        tasks: trials that are done and trials in all, by task.
    """

    def __init__(self, tasks: Mapping[str, tuple[int, int]], *, console: Console) -> None:
        done, total = (sum(values) for values in zip(*tasks.values(), strict=True))
        super().__init__(total=total, already_done=done, console=console)
        self.tasks = dict(tasks)
        self.ended: Counter[str] = Counter()

    def expect(self, task: str, trials: int) -> None:
        """How many there will be of this task in all, now that a round of its search is known."""
        done, _ = self.tasks[task]
        self.tasks[task] = done, trials
        self.total = sum(total for _, total in self.tasks.values())

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        task = self.running[key].job.task
        self.ended[task] += 1
        super().trial_ended(key, outcome)
        done, total = self.tasks[task]
        if self.live is None and done + self.ended[task] == total:
            self.console.print(f"{task}: all {total} trials are done")

    def _best_lines(self) -> list[Text]:
        """How far each task is: losses of different tasks are no ranking."""
        shown = [
            f"{task} {done + self.ended[task]}/{total}"
            for task, (done, total) in self.tasks.items()
        ]
        return [Text(" · ".join(shown), style="dim")]
