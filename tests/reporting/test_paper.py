from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hybrid_retrieval.reporting.paper import escaped, latex
from hybrid_retrieval.reporting.table import Column, Row, Table

HOSTILE = r"50% & more_of #1 {x} ~ ^ \end{table} $5 <b> | ± · †"
TABLE = Table(
    HOSTILE,
    "Run",
    [Column("Mo. mAP"), Column("text_here", None), Column("Δ", 1)],
    [
        Row("[first] a_b", [0.51234, "x & y", -12.5], best=frozenset({0})),
        Row("*second", [None, "<.0001", 7.0], section="other"),
    ],
    ["50% of 2_000"],
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]


def test_a_table_is_whole_and_its_text_is_text() -> None:
    text = latex(TABLE)
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 2, 1]
    opened, closed = (re.findall(rf"\\{end}{{(\w+)}}", text) for end in ("begin", "end"))
    assert opened == ["table", "tabular"] == closed[::-1]
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", text)
    assert columns == "lrlr"
    rows = [cells(line) for line in text.splitlines() if line.endswith(r"\\")]
    assert rows == [
        ["Run", "Mo. mAP", r"text\_here", "Δ"],
        ["{}[first] a\\_b", r"\textbf{0.5123}", r"x \& y", "$-$12.5"],
        ["{}*second", "-", r"\textless{}.0001", "7.0"],
    ]
    bare = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[%#~^_|<>]", bare)


def test_what_latex_would_read_is_escaped() -> None:
    assert escaped("a_b\n\x00") == r"a\_b  "
    assert r"\end{table}" not in escaped(HOSTILE)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_a_table_compiles(tmp_path: Path) -> None:
    plain = Table(TABLE.title, TABLE.corner, [*TABLE.columns[:2], Column("D", 1)], TABLE.rows, TABLE.notes)
    before = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(f"{before}{latex(plain)}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
