"""Draws docs/images/scale.png from what `python benchmarks/scale.py --json` printed.

python docs/figures/scale.py scale.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness.report.figures.canvas import style

PNG = Path(__file__).parents[1] / "images" / "scale.png"
RAY_TRIALS_PER_S = 10_000 / 715.27
"""https://docs.ray.io/en/latest/tune/tutorials/tune-scalability.html, one second a trial."""
STAGES = ("plan", "read", "analysis", "report", "sync")


def main(path: Path) -> None:
    measured = json.loads(path.read_text(encoding="utf-8"))
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4), dpi=130, layout="constrained")
        rate, stages = figure.subplots(1, 2)
        for kind, label in (("ours", "ours, all in files"), ("bare", "Ray Tune alone")):
            counts = [int(count) for count in measured[kind]]
            rates = [values["trials_per_s"] for values in measured[kind].values()]
            rate.plot(counts, rates, marker="o", label=label)
        rate.axhline(RAY_TRIALS_PER_S, color="#888888", linestyle="--", label="published by Ray")
        rate.set(xscale="log", ylim=(0, None), xlabel="trials", ylabel="trials a second")
        for name in STAGES:
            known = {
                int(count): values[f"{name}_processor_s"]
                for count, values in measured["results"].items()
                if f"{name}_processor_s" in values
            }
            stages.plot(list(known), list(known.values()), marker="o", label=name)
        stages.set(xscale="log", yscale="log", xlabel="trials", ylabel="processor time, s")
        rate.legend()
        stages.legend()
        figure.savefig(PNG)
    print(PNG)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
