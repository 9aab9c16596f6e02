"""Scheduling of trials with Ray Tune: the only package that imports Ray.

What Ray reads from the environment when it is imported is set here, before any module of this
package can import it; what the user has set stays.
"""

import os

# Before Ray is imported: no telemetry, no result files of Tune's own (ours are the truth), Ctrl-C
# is ours to handle, and no snapshot of the experiment (we resume from our own files).
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# How many trials wait for room is decided in `tune.cluster.room`; Tune would fix it at the start.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1000000")
# Why an attempt failed is said and kept by us, in a sentence.
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
# Ray starts its workers at nice 15: whatever else runs would then be in every step time.
os.environ.setdefault("RAY_worker_niceness", "0")
