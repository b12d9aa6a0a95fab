"""Pages in a browser: they render without a complaint, sort, filter and browse, and show hostile text as text.

What a test does with a page is a script at its end, whose answer is read from the document that Chromium is left with.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lxml import html

from hybrid_retrieval.evaluation.figures import RETRIEVED_SCHEMA
from hybrid_retrieval.evaluation.measures import SETTINGS
from hybrid_retrieval.report import main
from hybrid_retrieval.reporting import browser as module
from hybrid_retrieval.reporting.heatmap import fraction_text, pair_matrix
from hybrid_retrieval.reporting.page import Chart, Section, write_page
from hybrid_retrieval.reporting.run_directory import RunDirectory
from hybrid_retrieval.reporting.run_report import report_run
from hybrid_retrieval.reporting.table import Column, Row, Table

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
LARGEST = 6_000_000
HOSTILE = "<script>alert(1)</script> </script> <!-- \u202egnp.txt\u202c \x00 {{ 7 * 7 }} {% raw %} & \" ' ]]>"
SHOWN = HOSTILE.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")
TEXTS = {"ar": "ما هي العاصمة؟", "he": "מהי הבירה?", "th": "เมืองหลวงคืออะไร", "zh": "首都是什么？", "en": "What is the capital?"}
ASK = """
window.addEventListener("load", async () => {
  const late = () => document.querySelector("script.chart-data") && !document.documentElement.dataset.charts;
  while (late()) await new Promise((done) => setTimeout(done, 20));
  const all = (query) => [...document.querySelectorAll(query)];
  const set = (node, value) => {
    node.value = value;
    node.dispatchEvent(new Event(node.tagName === "INPUT" ? "input" : "change"));
  };
  const answer = await (async () => { %s })();
  const node = document.createElement("pre");
  node.id = "answer";
  node.textContent = JSON.stringify(answer);
  document.body.append(node);
});
"""
Ask = Callable[[Path, str], Any]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """What a script answers in a page; nothing may be in the console, and nothing may be fetched."""

    def asked(page: Path, script: str) -> Any:
        assert page.stat().st_size < LARGEST
        text = page.read_text(encoding="utf-8")
        copy = tmp_path / "asked.html"
        copy.write_text(text.replace("</body>\n</html>", f"<script>{ASK % script}</script></body></html>"), encoding="utf-8")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        flags += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--host-resolver-rules=MAP * ~NOTFOUND"]
        done = subprocess.run(
            [str(CHROMIUM), *flags, "--dump-dom", copy.as_uri()], capture_output=True, text=True, check=True, timeout=60
        )
        assert not re.findall(r".*CONSOLE.*", done.stderr)
        answer = html.document_fromstring(done.stdout).get_element_by_id("answer").text_content()
        return json.loads(answer)

    return asked


def keep(
    folder: Path, texts: dict[str, str], benchmark: str = "help_r", seed: int = 0, ids: tuple[str, ...] = ("q1", "q2")
) -> None:
    """``retrieved.parquet``: each question against each language and the pool; the first passage of each list is relevant."""
    rng = np.random.default_rng(seed)
    rows = []
    for query_id in ids:
        chosen = [f"{'worst' if query_id == 'q1' else 'sample'} {setting}" for setting in SETTINGS]
        for asked, query in texts.items():
            for corpus in (*texts, None):
                value = float(rng.uniform())
                for rank in (1, 2, 40):
                    language = corpus or asked
                    passage = (language, f"p{rank}", f"{texts[language]} {query_id} {rank}")
                    about = (benchmark, asked, query_id, f"{query} {query_id}", chosen, corpus, "map", value)
                    rows.append((*about, rank, *passage, 1 / rank, rank == 1))
    columns = zip(*rows, strict=True)
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, RETRIEVED_SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=RETRIEVED_SCHEMA), folder / "retrieved.parquet")


def test_questions_are_browsed(make_run: Callable[..., Path], ask: Ask) -> None:
    run = make_run("run")
    keep(run, TEXTS)
    report_run(run)
    found = ask(
        run / "report.html",
        """
        const [setting, asked, corpus, kind] = ["Setting", "Query language", "Passages in", "Chosen as"].map(
          (name) => all(".controls label").find((label) => label.textContent.startsWith(name)).querySelector("select"));
        const text = all(".controls input")[0];
        const cards = () => all(".question").length;
        const counts = [cards()];
        set(asked, "ar"); counts.push(cards());
        set(kind, "worst"); counts.push(cards());
        set(setting, "crosslingual");
        all(".question summary")[0].click();
        await new Promise((done) => setTimeout(done, 50));
        const lists = all(".question h4").map((node) => node.textContent);
        set(corpus, "he");
        all(".question summary")[0].click();
        await new Promise((done) => setTimeout(done, 50));
        const hits = all(".hit").map((node) => [node.className, node.innerText]);
        const styled = (node, style) => [node.lang, style.direction, style.unicodeBidi];
        const texts = all(".question .text").map((node) => styled(node, getComputedStyle(node)));
        set(kind, ""); set(asked, ""); set(corpus, ""); set(setting, "multilingual"); set(text, "q2 首都");
        return {counts, lists, hits, texts, matched: all(".query").map((node) => node.textContent), gaps: all(".gap").length};
        """,
    )
    assert found["counts"] == [10, 2, 1]
    assert found["lists"] == [f"Found in {language}" for language in ("en", "he", "th", "zh")]
    assert [kind for kind, _ in found["hits"]] == ["hit relevant", "hit", "hit"]
    assert [text.split()[0] for _, text in found["hits"]] == ["1.", "2.", "40."]
    assert "relevant" in found["hits"][0][1]
    assert TEXTS["he"] in found["hits"][0][1]
    assert found["texts"] == [["ar", "rtl", "isolate"], *[["he", "rtl", "isolate"]] * 3]
    assert found["matched"] == [f"{TEXTS['zh']} q2"]


def test_a_damaged_file_of_questions_is_refused_in_a_line(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("run")
    (run / "retrieved.parquet").write_bytes(b"PAR1")
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert "retrieved.parquet cannot be read" in error
    assert error.count("\n") == 1


def test_tables_sort_by_click_and_keyboard_and_filter(tmp_path: Path, ask: Ask) -> None:
    rows = [
        Row(f"row {at}", [value, text]) for at, (value, text) in enumerate([(9.5, "b"), (100.0, "a"), (-1.0, "c"), (None, "d")])
    ]
    rows.insert(2, Row("  ±", [0.5, ""], "margin"))
    long = [Row(f"de → l{at}", [float(at)]) for at in range(30)]
    tables = [Table("t", "Row", [Column("Value"), Column("Text", None)], rows), Table("l", "Pair", [Column("mAP")], long)]
    page = write_page(tmp_path / "page.html", "title", "under", [Section("tables", tables)])
    found = ask(
        page,
        """
        const [first, second] = all("table.figures"), heads = [...first.tHead.rows[0].cells];
        const labels = () => [...first.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
        const seen = [];
        for (const at of [1, 1, 1, 2]) {
          heads[at].querySelector("button").click();
          seen.push([heads.map((head) => head.ariaSort), labels()]);
        }
        const button = heads[0].querySelector("button");
        button.focus();
        const focused = document.activeElement === button && button.tagName;
        set(all("input.filter")[0], "L2 de");
        const left = [...second.tBodies[0].rows].filter((row) => !row.hidden).length;
        const captions = all("caption").map((node) => node.textContent);
        return {captions, seen, focused, filters: all("input.filter").length, left};
        """,
    )
    assert found["captions"] == ["t", "l"]
    written = ["row 0", "row 1", "±", "row 2", "row 3"]
    assert found["seen"] == [
        [["none", "descending", "none"], ["row 1", "±", "row 0", "row 2", "row 3"]],
        [["none", "ascending", "none"], ["row 2", "row 0", "row 1", "±", "row 3"]],
        [["none", "none", "none"], written],
        [["none", "none", "ascending"], ["row 1", "±", "row 0", "row 2", "row 3"]],
    ]
    assert found["focused"] == "BUTTON"
    assert (found["filters"], found["left"]) == (1, 11)


def test_hostile_text_is_shown_as_text(make_run: Callable[..., Path], tmp_path: Path, ask: Ask) -> None:
    for number, sampler in enumerate((HOSTILE.replace("\x00", ""), "plain")):
        run = make_run(f"sweep/{number}", sampler=sampler)
        keep(run, {HOSTILE: HOSTILE, "en": HOSTILE}, benchmark=HOSTILE, ids=(HOSTILE,))
    assert main([str(tmp_path / "sweep")]) == 0
    found = ask(
        tmp_path / "sweep" / "comparison.html",
        """
        all(".question summary")[0].click();
        await new Promise((done) => setTimeout(done, 50));
        return {
          scripts: all("script").filter((node) => !node.type && node.textContent.includes("alert" + "(1)")).length,
          title: document.querySelector("h1").textContent,
          query: all(".query")[0].textContent, passage: all(".hit .text")[0].textContent, system: all(".system")[0].textContent,
          about: all(".hit .about")[0].textContent, options: all("option").map((node) => node.textContent),
        };
        """,
    )
    assert found["scripts"] == 0
    assert SHOWN in found["query"]
    assert SHOWN in found["passage"]
    assert SHOWN in found["about"]
    assert SHOWN.replace(" \ufffd {{", "  {{") in found["title"]
    assert SHOWN.replace(" \ufffd {{", "  {{") in found["system"]
    assert SHOWN in found["options"]
    assert not re.search("[\u202e\x00]", (tmp_path / "sweep" / "comparison.html").read_text())


def test_charts_are_drawn_in_the_page_s_colours(tmp_path: Path, ask: Ask) -> None:
    altair = pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    rows = [{"query": one, "corpus": HOSTILE, "map": at / 10} for at, one in enumerate(TEXTS)]
    spec = altair.Chart(altair.Data(values=rows)).mark_bar().encode(x="query:N", y="map:Q", tooltip="corpus:N").to_dict()
    page = write_page(tmp_path / "page.html", "title", "under", [Section("one", charts=[Chart("bars", spec, "A caption")])])
    assert 'alt="A caption"' in page.read_text()
    found = ask(
        page,
        """
        const svg = all(".chart svg")[0];
        const colour = () => getComputedStyle(svg.querySelector("text")).fill;
        const colours = [];
        for (const at of [1, 2]) { all("#theme")[0].click(); colours.push(colour()); }
        return {bars: svg.querySelectorAll(".mark-rect path").length, colours, caption: all("figcaption")[0].textContent};
        """,
    )
    assert found["bars"] == len(TEXTS)
    assert found["colours"] == ["rgb(27, 27, 27)", "rgb(228, 228, 225)"]
    assert found["caption"] == "A caption"


def test_the_same_questions_of_all_systems_stand_beside_one_another(
    make_run: Callable[..., Path], tmp_path: Path, ask: Ask
) -> None:
    for number, sampler in enumerate(("x_x_mono", "hybrid")):
        keep(make_run(f"sweep/{number}", sampler=sampler), TEXTS, seed=number, ids=("q1", "q2") if number else ("q2",))
    assert main([str(tmp_path / "sweep")]) == 0
    found = ask(
        tmp_path / "sweep" / "comparison.html",
        """
        const cards = all(".question");
        cards.forEach((card) => card.querySelector("summary").click());
        await new Promise((done) => setTimeout(done, 50));
        const shown = (one) => [one.querySelector(".system").textContent.split(" ")[0], one.querySelectorAll(".hit").length,
          one.textContent.includes("not kept")];
        const query = (card) => card.querySelector(".query").textContent.slice(-2);
        return cards.map((card) => [query(card), [...card.querySelectorAll(".beside-one-another > div")].map(shown)]);
        """,
    )
    assert len(found) == 10
    for query, systems in found:
        kept = query == "q2"
        assert systems == [["x_x_mono", 3 * kept, not kept], ["hybrid", 3, False]]


def test_a_page_keeps_as_many_questions_as_there_is_room_for(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.setattr(module, "BYTES", 20_000)
    run = make_run("run")
    keep(run, TEXTS, ids=tuple(f"q{at}" for at in range(20)))
    report_run(run)
    page = run / "report.html"
    shown = ask(page, 'return [all("script.browser-data")[0].textContent.length, all(".note").map((one) => one.textContent)]')
    assert shown[0] < 21_000
    assert any("questions are left out to keep the page small" in note for note in shown[1])


def test_a_reader_chooses_a_matrix_its_difference_to_another_and_the_order_of_languages(
    make_run: Callable[..., Path], tmp_path: Path, ask: Ask
) -> None:
    for number, sampler in enumerate(("x_x_mono", "hybrid")):
        make_run(f"sweep/{number}", sampler=sampler, steps=4)
    assert main([str(tmp_path / "sweep")]) == 0
    runs = [RunDirectory.open(tmp_path / "sweep" / name) for name in "01"]
    found = ask(
        tmp_path / "sweep" / "comparison.html",
        """
        const [chart] = all(".chart");
        const place = (node) => node.getBoundingClientRect();
        const labels = () => [...chart.querySelectorAll(".role-axis-label text")].slice(-4);
        const names = () => labels().sort((a, b) => place(a).top - place(b).top).map((node) => node.textContent);
        const cells = () => [...chart.querySelectorAll(".mark-text.role-mark text")].map((node) => node.textContent);
        const choose = async (name, value) => {
          set(chart.querySelector(`select[name=${name}]`), value);
          await new Promise((done) => setTimeout(done, 200));
        };
        const seen = [cells()];
        await choose("minus", "hybrid"); seen.push(cells());
        await choose("order", "family"); seen.push(names());
        return seen;
        """,
    )
    languages = ("de", "en", "pt_br", "zh")
    mono, hybrid = (pair_matrix(run, "help_r", languages).ravel() for run in runs)
    assert found[0] == [fraction_text(value) for value in mono]
    assert [text.replace("\N{MINUS SIGN}", "-") for text in found[1]] == [
        f"{value:+.3f}".replace("0.", ".", 1) for value in mono - hybrid
    ]
    assert found[2] == ["en", "de", "pt_br", "zh"]


def test_every_picture_of_a_run_is_drawn_on_its_page_without_a_word_in_the_console(
    make_run: Callable[..., Path], ask: Ask
) -> None:
    run = make_run("run", alpha=0.5)
    report_run(run)
    drawn = ask(
        run / "report.html",
        """
        return all(".chart").map((chart) => chart.querySelectorAll("svg.marks").length);
        """,
    )
    assert drawn == [1] * len(list((run / "figures").glob("*.png")))
