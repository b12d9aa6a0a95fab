"""What all pictures share: colours, size and axes. Figure objects, never pyplot: nothing global is touched or stays open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DPI = 150
MAP_COLOURS = "viridis"
COLOURS = ("#1f5fa8", "#d1661f", "#2b8a57", "#8c4a9e", "#a83232", "#5c5c5c", "#b8961f", "#2a9aa8")
"""Distinct in hue and in lightness."""


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that arranges its panels itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Any, path: Path) -> Path:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)
    return path


def plain_axes(axes: Any, x: str, y: str, title: str) -> None:
    """Names, a light grid, and no box."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)
