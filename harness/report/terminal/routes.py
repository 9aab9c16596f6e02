"""Where every parameter of a variant goes, for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from optimizers import Forecast


def render_routes(result: Forecast, title: str) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "shape", "goes to", "matrices", "owners", "batch", "MFLOP", "why"):
        table.add_column(column, overflow="fold", no_wrap=column in ("matrices", "owners", "MFLOP"))
    reasons = list(dict.fromkeys(parameter.route.reason for parameter in result.parameters))
    for parameter in result.parameters:
        route = parameter.route
        owners = dict.fromkeys("all" if owner < 0 else str(owner) for owner in parameter.owners)
        table.add_row(
            route.name,
            "x".join(map(str, route.shape)),
            route.group.replace("_", " "),
            str(route.num_matrices) if route.matrices else "-",
            ",".join(owners) or "-",
            ",".join(map(str, parameter.batches)) or "-",
            f"{parameter.flops / 1e6:.1f}" if parameter.flops else "-",
            f"({reasons.index(route.reason) + 1})",
        )
    lines = [f"({number}) {reason}" for number, reason in enumerate(reasons, start=1)]
    lines += [
        f"worker {worker}: {flops / 1e6:.1f} MFLOP on its matrices, {sent:,} bytes sent a step"
        for worker, (flops, sent) in enumerate(zip(result.flops, result.bytes_sent, strict=True))
    ]
    mean = sum(result.bytes_sent) / len(result.bytes_sent)
    lines.append(f"mean {mean:,.0f} bytes a worker; the floor is {result.bytes_floor:,.0f}")
    return Group(Text(title, style="bold"), table, *map(Text, lines))
