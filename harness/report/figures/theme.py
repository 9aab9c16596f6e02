"""One drawing by day and by night: the colours of a figure follow the reader's setting.

Every colour that is not data is written into the SVG as a CSS variable, with a value for a light
and one for a dark page. So the page holds each figure once. Where a browser does not tell an image
what the reader prefers, the figure keeps its own light paper and stays readable.
"""

from __future__ import annotations

import re

DARK = {
    "#ffffff": "#15181c",  # paper, the same as that of the page
    "#222222": "#e6e9ed",  # text and the baseline
    "#555555": "#b4bcc6",
    "#888888": "#707a86",  # frames
    "#999999": "#7c8692",
    "#9a9a9a": "#7d8793",  # muted variants
    "#e4e4e4": "#2b3139",  # grid
    "#0072b2": "#4aa8e8",
    "#d55e00": "#ff8a45",
    "#009e73": "#2fc79b",
    "#cc79a7": "#e59cc6",
    "#e69f00": "#f2b83a",
    "#56b4e9": "#a9dbf8",
}
"""What takes the place of each light colour: the palette's hues, light enough for dark paper."""

LIGHT_ON_DATA, DARK_ON_DATA = "#fefefe", "#202020"
"""Text on a coloured cell, whose colour is data: the same by day and by night."""

_COLOUR = re.compile(rb"(?<=: )#[0-9a-f]{6}\b")
_STYLE = b'<style type="text/css">'


def themed(svg: bytes) -> bytes:
    """The SVG of Matplotlib with colours that follow `prefers-color-scheme`."""
    used: set[str] = set()

    def variable(found: re.Match[bytes]) -> bytes:
        colour = found.group().decode("ascii")
        if colour not in DARK:
            return found.group()
        used.add(colour)
        return f"var(--c{colour[1:]})".encode("ascii")

    drawn = _COLOUR.sub(variable, svg)
    assert _STYLE in drawn, "Matplotlib writes one style sheet into every SVG"
    return drawn.replace(_STYLE, _STYLE + _variables(used), 1)


def _variables(used: set[str]) -> bytes:
    day = "".join(f"--c{colour[1:]}:{colour};" for colour in sorted(used))
    night = "".join(f"--c{colour[1:]}:{DARK[colour]};" for colour in sorted(used))
    text = f":root{{{day}}}@media (prefers-color-scheme:dark){{:root{{{night}}}}}"
    return text.encode("ascii")
