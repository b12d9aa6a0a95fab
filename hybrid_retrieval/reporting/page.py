"""Self-contained HTML pages, rendered from ``page.html.j2``."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting.tables import Table

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
FOLD_ABOVE = 8
"""Nested facts of more rows than this open on a click."""


@dataclass(frozen=True)
class Picture:
    """A PNG. `size`: plain, full (as wide as the text) or wide (wider where there is room)."""

    path: Path
    caption: str
    size: str = "plain"

    @property
    def source(self) -> str:
        """The picture itself, as a URL."""
        return f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """A part of a page, shown in the order of its attributes.

    Attributes:
        notes: lines in grey.
        facts: names and values, nested as far as they are.
        files: by name, text that opens on a click.
    """

    title: str
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, title: str, under: str, sections: Sequence[Section]) -> Path:
    """Write a page; the path again."""
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=True).get_template("page.html.j2")
    page = template.render(title=title, under=under, sections=sections, fold_above=FOLD_ABOVE)
    return write_text(path, UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page))
