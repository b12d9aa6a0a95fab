"""What a report leaves for papers: its pictures and tables, in the formats that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError, choice
from hybrid_retrieval.files import write_text
from hybrid_retrieval.reporting import charts
from hybrid_retrieval.reporting.language_order import ORDERS
from hybrid_retrieval.reporting.table import Table, markdown

TABLES = ("tex", "md")
FORMATS = (*charts.FORMATS, *TABLES)
MINUS = "\N{MINUS SIGN}"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "†": r"\dag{}",
    MINUS: "$-$",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
"""What LaTeX reads as something else, or has under another name."""


@dataclass(frozen=True)
class Paper:
    """How pictures and tables are written.

    Attributes:
        formats: beside PNG, which is always there: pages in Markdown and loggers read it.
        order: of the languages in matrices.
    """

    formats: Sequence[str] = ()
    order: str = ORDERS[0]

    @classmethod
    def asked(cls, formats: str, order: str) -> Paper:
        """As on the command line, formats between commas.

        Raises:
            InputError: one is unknown.
        """
        named = [one.strip() for one in formats.split(",") if one.strip()]
        if not named:
            raise InputError(f"--formats={formats!r} names none; expected some of {', '.join(FORMATS)}")
        for one in named:
            choice("--formats", one, FORMATS)
        choice("--order", order, ORDERS)
        return cls(tuple(dict.fromkeys(named)), order)

    def draw(self, pictures: Mapping[str, Any], folder: Path) -> dict[str, Path]:
        """Write pictures by name; the PNG of each."""
        forms = [one for one in charts.FORMATS if one == "png" or one in self.formats]
        written = {name: [charts.save(chart, folder / f"{name}.{form}") for form in forms] for name, chart in pictures.items()}
        return {name: files[0] for name, files in written.items()}

    def tabulate(self, tables: Sequence[Table], name: str, folder: Path) -> list[Path]:
        """Write tables into one file a format; the files."""
        written = []
        for form in TABLES:
            if form in self.formats and tables:
                folder.mkdir(parents=True, exist_ok=True)
                text = "\n".join(map(_titled if form == "md" else latex, tables))
                written.append(write_text(folder / f"{name}.{form}", text))
        return written


PLAIN = Paper()


def _titled(table: Table) -> str:
    return f"## {table.title}\n\n{markdown(table)}"


def latex(table: Table) -> str:
    """A table of LaTeX's with its notes below, what stands out in bold; it needs the package booktabs."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}}}",
        rf"\begin{{tabular}}{{l{''.join('l' if column.digits is None else 'r' for column in table.columns)}}}",
        r"\toprule",
        _line([escaped(text.strip()) for text in (table.corner, *(column.name for column in table.columns))]),
        r"\midrule",
    ]
    section = table.rows[0].section if table.rows else ""
    for row, cells in table.cells():
        if row.section != section:
            section = row.section
            lines.append(r"\midrule")
        shown = (escaped(_signed(cell.text)) for cell in cells)
        bold = [rf"\textbf{{{text}}}" if cell.best else text for text, cell in zip(shown, cells, strict=True)]
        lines.append(_line([escaped(row.label.strip()), *bold]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip{{\footnotesize {escaped(note)}\par}}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    plain = "".join(mark if mark.isprintable() else " " for mark in text)
    return "".join(SPECIAL.get(mark, mark) for mark in plain)


def _line(cells: Sequence[str]) -> str:
    """The cells of a row; one that begins with a bracket is no argument of the line before."""
    first, *rest = cells
    return " & ".join([f"{{}}{first}" if first.startswith(("[", "*")) else first, *rest]) + r" \\"


def _signed(text: str) -> str:
    """A negative number with its sign, not a hyphen."""
    return f"{MINUS}{text[1:]}" if text.startswith("-") and len(text) > 1 else text
