"""A picture of MLflow while a study runs: some trials ended, others under way, curves growing.

    python docs/figures/mlflow_live.py                 # docs/images/mlflow-live.png; about a minute
    python docs/figures/mlflow_live.py --browser google-chrome --after 5

Runs the quickstart into a temporary folder, opens `optbench ui` on it, and takes the picture when
so many trials have ended; then the study is stopped. Needs a Chromium on the machine.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
RENDER_MS = 60_000
WIDTH, HEIGHT, SHOWN = 1900, 1000, 0.742
"""In pixels. MLflow's assistant opens on the right of a new visitor and is cut off."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--after", type=int, default=3, help="trials that have ended by then")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/mlflow-live.png")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, harness = Path(folder) / "runs", [sys.executable, "-m", "harness"]
        study = subprocess.Popen(
            [*harness, "run", str(ROOT / "studies/quickstart.toml"), "--runs-dir", str(runs)]
        )
        port = free_port()
        try:
            until(lambda: (runs / "mlflow.db").exists(), study)
            server = subprocess.Popen(
                [*harness, "ui", "--runs-dir", str(runs), "--port", str(port)]
            )
            try:
                until(
                    lambda: len(list(runs.glob("*/trials/*/outcome.json"))) >= options.after, study
                )
                take(options.browser, curves_of(runs, port), options.output)
                assert study.poll() is None, "the study was over before the picture was taken"
            finally:
                server.terminate()
                server.wait()
        finally:
            study.send_signal(signal.SIGINT)
            study.wait()


def curves_of(runs: Path, port: int) -> str:
    from harness.tracking.ui_views import ui_links

    ((_, links),) = ui_links(runs, port=port)
    return links["curves by variant"]


def take(browser: str, address: str, output: Path) -> None:
    subprocess.run(
        [
            browser,
            *(
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--window-size={WIDTH},{HEIGHT}",
            ),
            *(f"--virtual-time-budget={RENDER_MS}", f"--screenshot={output}", address),
        ],
        check=True,
        capture_output=True,
    )
    with Image.open(output) as picture:
        cut = picture.crop((0, 0, round(WIDTH * SHOWN), HEIGHT))
    cut.save(output)


def until(condition: Callable[[], bool], study: subprocess.Popen[bytes]) -> None:
    while not condition():
        if study.poll() is not None:
            sys.exit("the study ended too early")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
