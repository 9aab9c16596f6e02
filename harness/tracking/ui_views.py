"""Ready-made views of a study in the MLflow UI, and their addresses.

The UI opens an experiment on its outermost run, without columns. A shared view is a tag of the
experiment that holds the state of the page (filter, order, columns, groups); an address names it.
Read in the interface of MLflow 3.17; a version that does not know a key ignores it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.tracking.metrics import FINAL_LOSS

SHARED_VIEW_TAG = "mlflow.sharedViewState."
_EVERY_FIELD: dict[str, Any] = {
    "searchFilter": "",
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [],
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "SHOWALL",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
}


def _view(
    *,
    search: str,
    columns: list[str],
    by_variant: bool = False,
    order: str = f"metrics.`{FINAL_LOSS}`",
) -> dict[str, Any]:
    group_by = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "variant"}],
    }
    return _EVERY_FIELD | {
        "searchFilter": search,
        "orderByKey": order,
        "selectedColumns": columns,
        "columnOrder": columns,
        "groupBy": group_by if by_variant else None,
    }


VIEWS: dict[str, dict[str, Any]] = {
    "variants": _view(
        search="tags.`verdict` LIKE '%'",
        columns=[
            "tags.`verdict`",
            f"metrics.`{FINAL_LOSS}`",
            "metrics.`difference`",
            "metrics.`difference/low`",
            "metrics.`difference/high`",
            "metrics.`adjusted_p`",
            "metrics.`change_percent/validation_loss`",
            "metrics.`speedup_data`",
            "tags.`outcomes`",
        ],
    ),
    "trials": _view(
        # The runs of a search are apart: their mean over seeds would mix all its configurations.
        search="tags.`seed` LIKE '%' AND tags.`phase` = 'confirmation'",
        columns=[
            "tags.`outcome`",
            f"metrics.`{FINAL_LOSS}`",
            "metrics.`validation_accuracy`",
            "metrics.`tokens_per_s`",
            "tags.`variant`",
            "tags.`seed`",
        ],
        by_variant=True,
    ),
}


SUITE_VIEWS: dict[str, dict[str, Any]] = {
    "leaderboard": _view(
        search="tags.`contestant` LIKE '%'",
        order="metrics.`place`",
        columns=[
            "metrics.`place`",
            "metrics.`score`",
            "metrics.`score/low`",
            "metrics.`score/high`",
            "metrics.`iqm_speedup`",
            "metrics.`iqm_difference`",
            "metrics.`improvement`",
            "metrics.`mean_rank`",
            "tags.`verdicts`",
            "tags.`lost runs`",
        ],
    ),
}
"""Of the experiment of a suite, whose runs are its contestants."""


def view_tags(views: dict[str, dict[str, Any]] = VIEWS) -> dict[str, str]:
    """Tags of the experiment that hold the views."""
    return {f"{SHARED_VIEW_TAG}{name}": json.dumps(state) for name, state in views.items()}


def leaderboard_address(experiment_id: str) -> dict[str, str]:
    """As `addresses`, of a suite's experiment."""
    return {"leaderboard": f"{_page(experiment_id)}leaderboard"}


def _page(experiment_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey="


def addresses(experiment_id: str) -> dict[str, str]:
    """What stands behind the server's address, by what it shows."""
    page = _page(experiment_id)
    return {
        "variants with verdicts": f"{page}variants",
        "trials by variant": f"{page}trials",
        "curves by variant": f"{page}trials&compareRunsMode=CHART",
    }


def ui_links(runs_dir: Path, *, port: int = 5000) -> Iterator[tuple[str, dict[str, str]]]:
    """Every suite and study in the runs folder's own store, with the addresses of its views."""
    database = Path(runs_dir) / "mlflow.db"
    if not database.exists():
        return
    # Read without MLflow, whose import takes seconds.
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT e.experiment_id, e.name, t.key FROM experiments e JOIN experiment_tags t "
            "ON t.experiment_id = e.experiment_id "
            "WHERE t.key IN (?, ?) AND e.lifecycle_stage = 'active' ORDER BY e.name",
            (f"{SHARED_VIEW_TAG}variants", f"{SHARED_VIEW_TAG}leaderboard"),
        ).fetchall()
    for experiment_id, name, view in found:
        links = leaderboard_address if view.endswith("leaderboard") else addresses
        server = f"http://127.0.0.1:{port}/"
        yield name, {k: server + path for k, path in links(str(experiment_id)).items()}
