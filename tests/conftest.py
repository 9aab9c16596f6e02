"""A small real study: real text, a real tokenizer, a tiny model."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from made_up import MadeUpStudy

    from harness.runs.folder import StudyFolder

# DeepSpeed's compiled operator outlives a run of the tests, and belongs to this environment.
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))
# No hub is asked, and one thread is enough for models this small.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A script starts what it puts in the background deaf to Ctrl-C, and so would be all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

STUDY = """
name = "tiny"
question = "Does the road work from one end to the other?"

[data]
source = "stdlib"
max_documents = 60
vocab_size = 320
sequence_length = 32

[model]
size = "tiny"
hidden_size = 32
num_heads = 2
num_layers = 2
feed_forward_size = 48

[training]
steps = 6
batch_size = 8
evaluation_every = 3
evaluation_windows = 20
schedule = { kind = "cosine", warmup_steps = 2, floor = 0.1 }

[resources]
workers = 1

[seeds]
confirmation = [0, 1, 2]

[[variants]]
name = "adamw"
optimizer = { kind = "adamw", lr = 0.004 }

[[variants]]
name = "muon"
optimizer = { kind = "muon", lr = 0.02, aux_lr = 0.004, ns_dtype = "fp32" }

[analysis]
baseline = "adamw"
"""


TASKS = """
[[tasks]]
name = "plain"

[[tasks]]
name = "long"
question = "And twice as long?"
training = { steps = 12 }
"""

SEARCHED = """
[tuning]
trials = 8
searcher = "tpe"
asha = { reduction_factor = 2.0, grace_fraction = 0.5 }
"""
ADAMW_SPACE = """
space.lr = { kind = "loguniform", low = 0.0005, high = 0.05 }
space.weight_decay = { kind = "choice", values = [0.0, 0.1] }
"""
MUON_SPACE = """
space.lr = { kind = "loguniform", low = 0.002, high = 0.2 }
space.aux_lr = { kind = "loguniform", low = 0.0005, high = 0.05 }
"""


SLOW = (
    "tests/harness/cli/test_run.py",
    "tests/harness/cli/test_run_suite.py",
    "tests/faults/test_machines",
    "tests/distributed/",
    "tests/tune/",
)
"""What starts gangs or Ray comes first: neither process of `make test` has it at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))


@pytest.fixture(scope="session", autouse=True)
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of tokens for the whole run of the tests, never the user's own."""
    path = tmp_path_factory.mktemp("cache")
    os.environ["OPTBENCH_CACHE"] = str(path)
    return path


@pytest.fixture(scope="session")
def study_text() -> str:
    return STUDY


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="session")
def suite_text() -> str:
    """Two tasks: the tiny study, and twice as long."""
    return (
        STUDY.replace(
            '"tiny"\nquestion = "Does the road work from one end to the other?"',
            '"tiny-suite"\nquestion = "Does it hold?"',
            1,
        )
        + TASKS
    )


@pytest.fixture
def suite_file(suite_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "tiny-suite.toml"
    path.write_text(suite_text)
    return path


@pytest.fixture
def edited_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes the study with some text replaced by other text."""

    def edit(*replacements: tuple[str, str]) -> Path:
        text = STUDY
        for old, new in replacements:
            assert old in text, f"{old!r} is not in the study"
            text = text.replace(old, new)
        path = tmp_path / "edited.toml"
        path.write_text(text)
        return path

    return edit


@pytest.fixture
def searched_file(study_file: Path) -> Path:
    """The tiny study with a search of 2 variants x 8 configurations."""
    text = study_file.read_text(encoding="utf-8")
    text = text.replace("confirmation = [0, 1, 2]", "confirmation = [0, 1, 2]\ntuning = [100]")
    text = text.replace("evaluation_every = 3", "evaluation_every = 2")
    text = text.replace("workers = 1", "workers = 1\nmax_concurrent_trials = 1")
    first, second, third = text.split("[[variants]]")
    second, third = second + ADAMW_SPACE, third.replace("[analysis]", MUON_SPACE + "\n[analysis]")
    path = study_file.with_name("searched.toml")
    path.write_text(f"{first}{SEARCHED}\n[[variants]]{second}\n[[variants]]{third}")
    return path


@pytest.fixture
def made_up_study(tmp_path: Path) -> Callable[..., StudyFolder]:
    """Writes a folder with made-up results below `tmp_path / "runs"`; see `MadeUpStudy`."""

    from made_up import MadeUpStudy

    def write(**changes: Any) -> StudyFolder:
        return MadeUpStudy(**changes).write(tmp_path / "runs")

    return write


@pytest.fixture
def made_up_class() -> type[MadeUpStudy]:
    """The class itself, for tests that train one trial again."""
    from made_up import MadeUpStudy

    return MadeUpStudy


@pytest.fixture
def made_up_search(tmp_path: Path) -> Callable[..., StudyFolder]:
    """Writes the folder of a study that searched; see `MadeUpSearch`."""

    from made_up import MadeUpSearch

    def write(**changes: Any) -> StudyFolder:
        return MadeUpSearch(**changes).write(tmp_path / "runs")

    return write


@pytest.fixture
def eventful_study(made_up_study: Callable[..., StudyFolder]) -> StudyFolder:
    """Five variants, of which one lost a seed to divergence and one to a crash."""
    from made_up import EVENTFUL

    return made_up_study(**EVENTFUL)
