"""From the folder of a suite to its analysis, and its analysis.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import StudyResults, load_results
from harness.analysis.suite.analyse import analyse_tasks
from harness.analysis.suite.results import SuiteAnalysis, read_suite_analysis
from harness.analysis.suite.study_task import task_of_study
from harness.runs.files import write_json
from harness.runs.suite_folder import SuiteFolder, SuitePlan
from harness.runs.suite_plan import load_suite_plan


@dataclass(frozen=True, kw_only=True)
class SuiteResults:
    """A suite with its analysis and the results of its tasks' studies: all that a report reads.

    `studies` by the name of the task. `analysis` is None before the first one was made.
    """

    folder: SuiteFolder
    plan: SuitePlan
    studies: Mapping[str, StudyResults]
    analysis: SuiteAnalysis | None

    @property
    def complete(self) -> bool:
        """Whether no trial is missing that a verdict waits for."""
        return all(study.complete for study in self.studies.values())


def analyse_suite(folder: SuiteFolder) -> SuiteResults:
    """Analyses every task's finished seeds, then all tasks together; writes their analysis.json.

    A task without a result is named in the analysis with the reason, and counts nowhere.

    Raises:
        UserError: no plan there, or one that was changed by hand.
    """
    plan = load_suite_plan(folder)
    studies = {task.name: analyse_study(folder.task(task.name)) for task in plan.tasks}
    tasks = [task_of_study(task, studies[task.name], plan.settings) for task in plan.tasks]
    analysis = analyse_tasks(
        plan.name, tasks, plan.settings, variants=plan.variants, baseline=plan.baseline
    )
    write_json(folder.analysis_path, {**analysis.to_json(), "plan_sha256": plan.sha256})
    return SuiteResults(folder=folder, plan=plan, studies=studies, analysis=analysis)


def load_suite_results(folder: SuiteFolder) -> SuiteResults:
    """Reads the folder with the analyses as they were written last.

    Raises:
        UserError: no plan there, or one that was changed by hand.
    """
    plan = load_suite_plan(folder)
    return SuiteResults(
        folder=folder,
        plan=plan,
        studies={task.name: load_results(folder.task(task.name)) for task in plan.tasks},
        analysis=read_suite_analysis(folder.analysis_path),
    )
