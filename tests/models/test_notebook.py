"""The notebook of ``examples/`` runs from its first cell to its last, and what it shows are figures."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "bias_of_a_published_encoder.ipynb"
SMALL = {"languages = None": "languages = ['de', 'en', 'th']", "model = None": "model = MODEL"}


def shown(cell: str, names: dict[str, Any]) -> Any:
    """What a cell leaves to be displayed."""
    code = ast.parse(cell)
    last = code.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(code, str(NOTEBOOK), "exec"), names)
        return None
    exec(compile(ast.Module(code.body[:-1], []), str(NOTEBOOK), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


@pytest.mark.skipif(not Path(os.environ.get("HYBRID_RETRIEVAL_DATA", ""), "xquad-r").is_dir(), reason="XQuAD-R is not at hand")
def test_the_notebook_is_ten_cells_that_run(xlmr_like: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_RETRIEVAL_CACHE", str(cache))
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 10
    assert not any(cell.get("outputs") for cell in cells)
    names: dict[str, Any] = {"MODEL": str(xlmr_like)}
    left = []
    for cell in cells:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            for written, small in SMALL.items():
                text = text.replace(written, small)
            left.append(shown(text, names))
    _, _, means, matrix, bias, best = left
    metrics = names["result"].metrics
    assert dict(zip(means.setting, means["mean"], strict=False)).keys() == {"monolingual", "crosslingual", "multilingual"}
    assert means["mean"][0] == metrics["xquad_r/monolingual/map"]
    assert means.low[0] <= means["mean"][0] <= means.high[0]
    assert len(names["pairs"]) == 9
    assert "rect" in str(matrix.to_dict())
    assert metrics["xquad_r/multilingual/rank_distance"] == bias.value[0]
    assert bias.measure.nunique() == 4
    assert len(best) == 10
