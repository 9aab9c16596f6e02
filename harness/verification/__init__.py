"""Does an optimizer keep its promises, in real workers under every backend?

Example:
    >>> from harness.verification import CHECKS, assert_conforms, verify
    >>> results = verify("tiger:Tiger", settings={"beta": 0.9}, workers=(1, 2))
    >>> assert_conforms(results)
"""

from harness.verification.catalogue import CHECKS, Check
from harness.verification.places import BACKENDS, Place
from harness.verification.results import CheckResult, assert_conforms
from harness.verification.suite import results_of, verify

__all__ = [
    "BACKENDS",
    "CHECKS",
    "Check",
    "CheckResult",
    "Place",
    "assert_conforms",
    "results_of",
    "verify",
]
