"""Self-contained HTML pages, rendered from ``page.html.j2`` ``page.css``, ``page.js`` and ``browser.js``."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting.charts import svg
from hybrid_retrieval.reporting.table import Table

UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\u202d\\u202e\\ud800-\\udfff]")
"""Control characters, among them those that turn the direction of text around, and halves of characters."""
VEGA = "window.vegaEmbed = vegaEmbed;"
"""What scripts of a page see of the bundle."""
BUNDLE = "vega.js"
FOLD_ABOVE = 8
"""Nested facts of more rows than this open on a click."""


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart that the reader's browser draws, in the colours of light and dark.

    Attributes:
        name: of the file under which a reader saves it.
        spec: what it leaves without a colour takes the page's.
        size: plain, full (as wide as the text) or wide (wider where there is room).
    """

    name: str
    spec: Mapping[str, Any]
    caption: str
    size: str = "plain"

    @property
    def still(self) -> str:
        """The chart as a picture, as a URL, for a reader without JavaScript."""
        return f"data:image/svg+xml;base64,{base64.b64encode(svg(self.spec).encode()).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """A part of a page, shown in the order of its attributes.

    Attributes:
        notes: lines in grey.
        folded: tables that open on a click.
        browser: what `hybrid_retrieval.reporting.browser` makes of questions.
        facts: names and values, nested as far as they are.
        files: by name, text that opens on a click.
    """

    title: str
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    folded: Sequence[Table] = ()
    browser: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, title: str, under: str, sections: Sequence[Section]) -> Path:
    """Write a page; the path again."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    environment.policies["json.dumps_function"] = _json
    page = environment.get_template("page.html.j2").render(
        title=title,
        under=under,
        sections=sections,
        fold_above=FOLD_ABOVE,
        styles=_own("page.css"),
        library=_vega() if any(section.charts for section in sections) else "",
        scripts=[_own("page.js"), *([_own("browser.js")] if any(section.browser for section in sections) else [])],
    )
    return write_text(path, UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page))


@cache
def _vega() -> str:
    """The library that draws the charts, the same for every page.

    It takes seconds to put together, and is kept in the cache that the environment names.
    """
    import vl_convert

    def put_together() -> str:
        return vl_convert.javascript_bundle(VEGA).replace("</script", "<\\/script")

    def keep(folder: Path) -> None:
        write_text(folder / BUNDLE, put_together())

    key = {"vl-convert-python": version("vl-convert-python"), "snippet": VEGA}
    try:
        return (Cache.at(PathsConfig().cache).build("charts", key, keep) / BUNDLE).read_text(encoding="utf-8")
    except (InputError, OSError, RuntimeError, ValueError):  # nothing can be kept there, or is there: a report does without
        return put_together()


def _own(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _json(value: Any, **_: Any) -> str:
    return json.dumps(_printable(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _printable(value: Any) -> Any:
    """The same with every text fit to be shown: JSON spells control characters out, so that they pass for others."""
    if isinstance(value, str):
        return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, (list, tuple)) else value
