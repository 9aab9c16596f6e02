"""A bucket: matrices of one shape, stacked, with the index plans that move them.

    reduce      local gradients of whole matrices, averaged at their owners
    assemble    what workers keep of the momentum, put together at the owners
    give back   the orthogonalised matrices, to whoever holds their weights

A `WholeBucket` has whole matrices on every worker, a `FragmentBucket` a range of each, maybe empty.
Both are made once, when the optimizer is bound; a step only runs along their plans.
"""

from collections.abc import Mapping

from optimizers.buckets.base import Arrives, Bucket, Gang
from optimizers.buckets.fragmented import FragmentBucket
from optimizers.buckets.whole import WholeBucket
from optimizers.fragments import Fragment
from optimizers.plan import Plan

__all__ = ["Arrives", "Bucket", "Gang", "make_buckets"]


def make_buckets(plan: Plan, fragments: Mapping[str, Fragment], gang: Gang) -> tuple[Bucket, ...]:
    """The buckets of a plan, as the worker `gang.rank` sees them."""
    buckets: list[Bucket] = []
    for bucket in plan.buckets:
        whole = all(plan.shares[index].is_whole for index in bucket.indices)
        kind = WholeBucket if whole else FragmentBucket
        buckets.append(kind(plan, bucket, fragments, gang))
    return tuple(buckets)
