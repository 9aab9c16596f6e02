"""What a person should hear of a study before it runs, though nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from harness.study.study_file import Study
from optimizers import ExternalSpec, ScheduleFreeSpec


def notices(study: Study) -> Iterator[str]:
    """Sentences without their full stop."""
    for variant in study.variants:
        schedule = variant.schedule or study.training.schedule
        if isinstance(variant.optimizer, ScheduleFreeSpec) and schedule.kind != "constant":
            yield (
                f"variants.{variant.name}: schedule_free averages in the place of a schedule that "
                f"falls, and its learning rate is {schedule.kind}: give it schedule = {{ kind = "
                '"constant" } and warmup_steps of its own to run the method of its authors'
            )
        if isinstance(variant.optimizer, ExternalSpec):
            from optimizers.external.trying import not_resumable

            if (reason := not_resumable(variant.optimizer)) is not None:
                yield (
                    f"variants.{variant.name}: {variant.optimizer.path} cannot go on from a "
                    f"checkpoint ({reason}): its trials are not saved on their way, and start over "
                    "after a failure of the machine"
                )
