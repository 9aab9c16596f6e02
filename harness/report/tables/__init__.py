"""The tables of a report: one function each, from the study to text."""

from harness.report.tables.arithmetic import arithmetic
from harness.report.tables.attempts import (
    counted_ends,
    failed_attempts,
    machine_facts,
    machines,
    tried_again,
)
from harness.report.tables.decomposition import (
    decomposition,
    decomposition_sentence,
    leaked_losses,
)
from harness.report.tables.evidence import certificate, looks, pairing, statistics_table
from harness.report.tables.experts import expert_movement
from harness.report.tables.machine import counters, dead_experts, speed
from harness.report.tables.measures import changes, data_efficiency, measures, speedup
from harness.report.tables.results import failures, outcomes, outcomes_in_words, results, targets
from harness.report.tables.search import chosen, ledger, search_failures
from harness.report.tables.settings import routes, settings

__all__ = [
    "arithmetic",
    "certificate",
    "changes",
    "chosen",
    "counted_ends",
    "counters",
    "data_efficiency",
    "dead_experts",
    "decomposition",
    "decomposition_sentence",
    "expert_movement",
    "failed_attempts",
    "failures",
    "leaked_losses",
    "ledger",
    "looks",
    "machine_facts",
    "machines",
    "measures",
    "outcomes",
    "outcomes_in_words",
    "pairing",
    "results",
    "routes",
    "search_failures",
    "settings",
    "speed",
    "speedup",
    "statistics_table",
    "targets",
    "tried_again",
]
