"""A process beside a run that sends every report to MLflow as it comes.

    python -m harness.tracking.live FOLDER...    # the tracking address comes on standard input

Training never waits for it: it reads the study's files, at a low priority, and a server that
is slow or gone holds up nobody else. It ends when its standard input does, so also with the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from harness.runs.folder import StudyFolder

POLL_S = 1.0
NICENESS = 10
"""Behind training, and yet alive: at 19, beside more work than there are cores, nothing had arrived
after two minutes. At 10 a report took a second there, once the process had started."""
FINISH_S = 10.0
"""So long a run waits at its end for the last reports; what is missing then is written later."""
LAST_S = 30.0
"""So long the process may outlive its run, should nobody end it."""
REQUEST_S = "20"
"""Nobody waits for an answer here, so a slow server has more time than at the end of a run."""


class LiveWriter:
    """The process, as seen from the run that starts it.

    The address may hold a password, so it is no argument: anyone may read those with `ps`.

    Args:
        folders: of one study, or of all tasks of a suite.
    """

    def __init__(self, *folders: StudyFolder, tracking_uri: str | None = None) -> None:
        paths = [str(folder.path) for folder in folders]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.tracking.live", *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,  # Ctrl-C is for the run, which then ends this process
        )
        assert self._process.stdin is not None, "asked for above"
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(tracking_uri) + "\n")
            self._process.stdin.flush()

    def finish(self, at_most_s: float = FINISH_S) -> str:
        """Lets it send the last reports; says why some are missing, and nothing if all are there.

        A process that is not done in time is killed.
        """
        try:
            problem, _ = self._process.communicate(timeout=at_most_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return f"it did not take the last reports within {at_most_s:g} s"
        if self._process.returncode and not problem:
            return f"the process that writes it ended with exit code {self._process.returncode}"
        return problem.strip()


def main() -> None:
    os.nice(NICENESS)
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever libraries print is no answer
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REQUEST_S)
    folders = [StudyFolder(Path(path)) for path in sys.argv[1:]]
    tracking_uri = json.loads(sys.stdin.readline() or "null")
    run_is_over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(run_is_over,), daemon=True).start()

    from harness.tracking.following import Following

    with ExitStack() as held:
        studies = [held.enter_context(Following(folder, tracking_uri)) for folder in folders]
        while not run_is_over.wait(POLL_S):
            for following in studies:
                following.poll()
        for following in studies:
            following.finish()
    problems = [following.problem for following in studies if following.problem]
    print(problems[0] if problems else "", file=answer, flush=True)


def _wait_for_the_end(run_is_over: threading.Event) -> None:
    """Standard input ends when the run says so, or when its process is gone."""
    while os.read(0, 4096):
        pass
    run_is_over.set()
    time.sleep(LAST_S)
    os._exit(1)


if __name__ == "__main__":
    main()
