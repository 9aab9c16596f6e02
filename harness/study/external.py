"""Optimizers that are not ours, tried out when a study file is read, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from harness.study.search_space import Choice, Grid
from harness.study.study_file import Study, VariantConfig
from optimizers import ExternalSpec


def with_sources(study: Study) -> tuple[Study, list[str]]:
    """The study with the code of each such optimizer named in its settings, and what is wrong.

    So a trial's key changes with that code. The ends of every dimension of its space are tried too,
    and each value of a list. A study without such an optimizer comes back as it is, and torch is
    not imported for it.
    """
    if not any(isinstance(variant.optimizer, ExternalSpec) for variant in study.variants):
        return study, []
    mistakes: list[str] = []
    variants = []
    for variant in study.variants:
        if not isinstance(variant.optimizer, ExternalSpec):
            variants.append(variant)
            continue
        from optimizers.external.trying import try_out

        prefix = f"variants.{variant.name}.optimizer"
        try:
            found = try_out(variant.optimizer)
        except ValueError as error:
            mistakes.append(f"{prefix}.{error}")
            continue
        if found.needs_whole_parameters and study.training.backend != "ddp":
            mistakes.append(
                f"{prefix}.path: {variant.optimizer.path} is a plain torch.optim.Optimizer, which "
                f"needs whole parameters, and training.backend is {study.training.backend!r}: set "
                "it to 'ddp', or write it as an ElementwiseOptimizer, which runs under each"
            )
        mistakes += _refused_by_space(variant)
        optimizer = variant.optimizer.model_copy(update={"source": found.source})
        variants.append(variant.model_copy(update={"optimizer": optimizer}))
    return study.model_copy(update={"variants": tuple(variants)}), mistakes


def _refused_by_space(variant: VariantConfig) -> Iterator[str]:
    from optimizers.external.trying import try_out

    for setting, dimension in variant.space.items():
        ends = (dimension.at(0.0), dimension.at(1.0))
        for value in dimension.listed if isinstance(dimension, Choice | Grid) else ends:
            optimizer = variant.with_settings({setting: value}).optimizer
            assert isinstance(optimizer, ExternalSpec), "a point does not change the kind"
            try:
                try_out(optimizer)
            except ValueError as error:
                yield f"variants.{variant.name}.space.{setting}: at {value!r}: {error}"
