"""Self-contained pages: elements are built, not pasted, so every text is escaped; pictures are inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lxml import etree
from lxml.html import builder as E  # noqa: N812

from hybrid_retrieval.reporting.tables import Table

FOLD_ABOVE = 8
"""Nested facts of more rows than this open on a click."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; color: #1b1b1b; background: #fff;
       max-width: 1240px; margin: 2rem auto 4rem; padding: 0 1.25rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p.under, figcaption, p.note { color: #5a5a5a; margin: .2rem 0 .8rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
thead th { border-bottom: 2px solid #999; font-weight: 600; }
.figures td, .figures thead th:not(:first-child) { text-align: right; white-space: nowrap; }
.figures tbody th { font-weight: 400; }
.figures td.best { font-weight: 700; background: #eef4fb; }
.figures tr.mean, .figures tr.sd { background: #fafafa; }
.scroll { overflow-x: auto; }
.facts th { font-weight: 400; color: #5a5a5a; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
.facts .facts { margin: 0; }
.facts .facts tr:last-child > * { border-bottom: 0; }
figure { margin: 1rem 0; }
img { max-width: min(100%, 900px); height: auto; }
figure.wide { width: min(96vw, 2000px); margin-left: 50%; transform: translateX(-50%); }
figure.full img, figure.wide img { max-width: 100%; }
summary { cursor: pointer; font-weight: 600; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; line-height: 1.4; }
"""


def page(title: str, under: str, *content: Any) -> str:
    """A whole document."""
    head = E.HEAD(
        E.META(charset="utf-8"),
        E.META(name="viewport", content="width=device-width, initial-scale=1"),
        E.TITLE(title),
        E.STYLE(STYLE),
    )
    body = E.BODY(E.H1(title), E.P(E.CLASS("under"), under), *content)
    document = E.HTML(head, body)
    document.set("lang", "en")
    text: str = etree.tostring(document, method="html", encoding="unicode", doctype="<!DOCTYPE html>", pretty_print=True)
    return text


def section(title: str, *content: Any) -> Any:
    """A heading and what is under it."""
    return E.SECTION(E.H2(title), *content)


def note(text: str) -> Any:
    """A line in grey."""
    return E.P(E.CLASS("note"), text)


def figure_table(table: Table) -> Any:
    """A result table; the best figures stand out."""
    body = []
    for row, cells in table.cells():
        shown = [E.TD(E.CLASS("best"), cell.text) if cell.best else E.TD(cell.text) for cell in cells]
        body.append(E.TR(E.CLASS(row.kind), E.TH(row.label, scope="row"), *shown))
    names = [E.TH(column.name, scope="col") for column in table.columns]
    head = E.THEAD(E.TR(E.TH(table.corner, scope="col"), *names))
    return E.DIV(E.CLASS("scroll"), E.TABLE(E.CLASS("figures"), head, E.TBODY(*body)))


def picture(path: Path, caption: str, size: str = "plain") -> Any:
    """A PNG inside the page. `size`: plain, full (as wide as the text) or wide (wider where there is room)."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return E.FIGURE(E.CLASS(size), E.IMG(src=f"data:image/png;base64,{data}", alt=caption), E.FIGCAPTION(caption))


def facts(values: Mapping[str, Any]) -> Any:
    """Names and values, nested as far as they are."""
    rows = [E.TR(E.TH(str(name), scope="row"), E.TD(_value(value))) for name, value in values.items()]
    return E.TABLE(E.CLASS("facts"), E.TBODY(*rows))


def folded(title: str, text: str) -> Any:
    """Preformatted text behind a click."""
    return E.DETAILS(E.SUMMARY(title), E.PRE(text))


def _value(value: Any) -> Any:
    if isinstance(value, Mapping) and value:
        return facts(value) if len(value) <= FOLD_ABOVE else E.DETAILS(E.SUMMARY(f"{len(value)} entries"), facts(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return E.DIV(*(_value(item) for item in value))
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)
