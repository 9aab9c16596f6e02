"""The search for hyperparameters: equal budgets, its journal, the edge gate, the choice."""

from harness.tuning.records import Configuration, Ledger, Tuning, VariantTuning
from harness.tuning.summary import load

__all__ = ["Configuration", "Ledger", "Tuning", "VariantTuning", "load"]
