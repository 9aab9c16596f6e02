"""The commands, put together, and the one place for errors."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator

# Importing a module of commands registers them, in the order of the help.
from harness.cli import inspect, life, statistics, studies, suites, verify  # noqa: F401
from harness.cli.app import app
from harness.errors import StudyStopped, UserError
from harness.report.terminal.console import printable

WHAT_TO_DO = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there (your quota is used up)",
    errno.EFBIG: "this file system holds no file of that size: use another one",
    errno.EROFS: "it can only be read: write elsewhere",
    errno.EACCES: "ask for the right to it, or use another path",
    errno.EPERM: "ask for the right to it, or use another path",
    errno.ENOTDIR: "a file lies where a folder should be: move it away, or use another path",
    errno.EEXIST: "a file lies where a folder should be: move it away, or use another path",
    errno.EISDIR: "a folder lies where a file should be: move it away, or use another path",
    errno.EIO: "the disk may be failing: copy what is there to another one",
}
"""What is wrong with a disk and not with the program: one line and no traceback."""

DISK_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""What is told also where it led to another error."""


def main() -> None:
    """Exit codes: 0 done, 1 a trial, disk or library failed, 2 a wrong input, 130 Ctrl-C."""
    # Read when these libraries are imported, which happens inside the commands.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        app()
    except UserError as error:
        _end(str(error), 2)
    except StudyStopped as error:
        _end(str(error), 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, OSError) and cause.errno in WHAT_TO_DO:
                where, advice = cause.filename or "a file", WHAT_TO_DO[cause.errno]
                kept = "What was finished is kept: then run the same command again"
                _end(f"{where}: {cause.strerror}: {advice}. {kept}", 1)
        raise


def _end(message: str, code: int) -> None:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error itself, and a disk that failed before it: Ray Tune hides what a callback met."""
    yield error
    before = error.__cause__ or error.__context__
    while before is not None:
        if isinstance(before, OSError) and before.errno in DISK_FAILED:
            yield before
        before = before.__cause__ or before.__context__
