"""Help pages: what English keeps, what a translation loses, and which pages stay together."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.help_pages import folder_name, package_name, parse_page, read_all, read_pages
from hybrid_retrieval.data.languages import spelt
from hybrid_retrieval.data.parallel import SPLITS, ParallelPairs, text_key
from hybrid_retrieval.data.sources.libreoffice_help import LibreOfficeHelp, first_pages, select_items
from hybrid_retrieval.errors import InputError

Blocks = list[tuple[str, str]]
"""(id, text) in reading order; ids that start with h are headings."""

LONG = "that this section goes on for more than eight words"


def english_pages() -> dict[str, Blocks]:
    """Ten pages: 0 and 1 share a block of four words, 2 and 3 only a shorter one, the rest are alone."""
    pages = {f"p{i}.html": [(f"h{i}", f"Heading {i}"), (f"b{i}", f"Page {i} says {LONG}")] for i in range(10)}
    pages["p0.html"].append(("s0", "a block shared twice"))
    pages["p1.html"].append(("s1", "a block shared twice"))
    pages["p2.html"].append(("t2", "three words only"))
    pages["p3.html"].append(("t3", "three words only"))
    return pages


def translated(pages: Mapping[str, Blocks], language: str) -> dict[str, Blocks]:
    return {page: [(id_, f"{language}: {text}") for id_, text in blocks] for page, blocks in pages.items()}


def html(blocks: Blocks) -> str:
    tags = ["h2" if id_.startswith("h") else "p" for id_, _ in blocks]
    body = "".join(f'<{tag} id="{id_}">{text}</{tag}>' for tag, (id_, text) in zip(tags, blocks, strict=True))
    head = '<meta http-equiv="Content-Type" content="text/html; charset=utf-8">'
    return f'<html><head>{head}</head><body><p id="menu">Menu</p><div id="DisplayArea">{body}</div></body></html>'


def write(root: Path, folder: str, pages: Mapping[str, Blocks]) -> None:
    for page, blocks in pages.items():
        file = root / folder / "text" / page
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(html(blocks), encoding="utf-8")


@pytest.fixture
def help_dir(tmp_path: Path) -> Path:
    english = english_pages()
    for folder, pages in (("en-US", english), ("de", translated(english, "de")), ("pt-BR", translated(english, "pt"))):
        write(tmp_path / "help", folder, pages)
    return tmp_path / "help"


def source(paths: PathsConfig, help_dir: Path | None, *languages: str, **rest: Any) -> LibreOfficeHelp:
    """Kept headings alone, unless `rest` says otherwise."""
    rest = {"shared_headings": False, "openings": False, **rest}
    chosen = LibreOfficeHelp(paths, str(help_dir) if help_dir else None, languages=list(languages), **rest)
    chosen.installed, chosen.processes = Path(paths.cache) / "not installed", 1
    return chosen


def texts(pairs: ParallelPairs, side: str, language: str) -> dict[str, str]:
    """Page -> text."""
    table = getattr(pairs, side)
    rows = [row for row in table.rows[:, pairs.languages.index(language)].tolist() if row >= 0]
    return {id_.split("#")[0]: text for id_, text in zip(table.ids(rows), table.texts(rows), strict=True)}


def dropped(pairs: ParallelPairs, reason: str, language: str) -> int:
    count: int = pairs.meta["dropped"].get(reason, {}).get(language, 0)
    return count


def test_a_heading_is_answered_by_its_section_in_every_language(paths: PathsConfig, help_dir: Path) -> None:
    pairs = source(paths, help_dir, "de", "pt_br", "en").pairs()
    assert pairs.languages == ("de", "en", "pt_br")
    assert texts(pairs, "queries", "pt_br") == {f"p{i}.html": f"pt: Heading {i}" for i in range(10)}
    assert texts(pairs, "passages", "en")["p0.html"] == f"Page 0 says {LONG} a block shared twice"
    assert texts(pairs, "passages", "de")["p4.html"] == f"de: Page 4 says {LONG}"
    assert (pairs.edges[:, 0] == pairs.edges[:, 1]).all()
    assert sorted(pairs.edges[:, 0].tolist()) == list(range(10))


def test_only_blocks_of_the_display_area_count_and_an_id_counts_once() -> None:
    page = parse_page(
        b'<html><body><p id="out">no</p><div id="DisplayArea"><h1 id="h">A <b>bold</b>\n head</h1><p>no id</p>'
        b'<div><p id="b">first</p></div><p id="b">again</p><td id="c">cell</td></div></body></html>'
    )
    assert page == {"h": (True, "A bold head"), "b": (False, "first")}


@pytest.mark.parametrize(
    ("page", "block", "text", "reason"),
    [
        ("p4.html", "b4", "", "block missing or empty"),
        ("p4.html", "b4", f"Page 4 says {LONG}", "block still in English"),
        ("p0.html", "s0", f"de: Page 0 says {LONG}", "block repeated in its section"),
        ("p5.html", "h5", "de: Heading 4", "text of several queries"),
        ("p5.html", "b5", f"de: Page 4 says {LONG}", "text of several passages"),
    ],
)
def test_a_translation_loses_blocks_for_one_reason_each(
    page: str, block: str, text: str, reason: str, paths: PathsConfig, help_dir: Path
) -> None:
    german = translated(english_pages(), "de")
    german[page] = [(id_, text if id_ == block else old) for id_, old in german[page]]
    write(help_dir, "de", german)
    pairs = source(paths, help_dir, "de", "en").pairs()
    lost = {other: dropped(pairs, other, "de") for other in pairs.meta["dropped"] if dropped(pairs, other, "de")}
    several = reason.startswith("text of several")
    assert lost == {reason: 2 if several else 1}
    side = "queries" if block.startswith("h") else "passages"
    found = texts(pairs, side, "de")
    if reason == "block repeated in its section":
        assert found[page] == f"de: Page 0 says {LONG}"
    else:
        assert page not in found
        assert len(found) == (8 if several else 9)
    assert len(texts(pairs, side, "en")) == 10


def test_a_missing_page_is_missing_in_its_language_only(paths: PathsConfig, help_dir: Path) -> None:
    (help_dir / "de" / "text" / "p7.html").unlink()
    pairs = source(paths, help_dir, "de", "en").pairs()
    assert dropped(pairs, "block missing or empty", "de") == 2
    assert "p7.html" not in texts(pairs, "queries", "de")
    assert "p7.html" in texts(pairs, "queries", "en")


def test_english_decides_what_is_kept_though_it_is_not_chosen(paths: PathsConfig, help_dir: Path) -> None:
    english = english_pages()
    english["p8.html"] = [("h8", "Heading 9"), ("b8", f"Page 8 says {LONG}")]
    english["p6.html"] = [("h6", "Heading 6"), ("b6", "seven words are one word too few")]
    english["p7.html"] = [("h7", "Heading 7"), ("b7", "these are eight words and so are kept")]
    write(help_dir, "en-US", english)
    german = translated(english_pages(), "de")
    write(help_dir, "de", german)
    pairs = source(paths, help_dir, "de").pairs()
    assert pairs.languages == ("de",)
    assert sorted(texts(pairs, "queries", "de")) == [f"p{i}.html" for i in (0, 1, 2, 3, 4, 5, 7)]
    assert pairs.meta["dropped"]["heading empty or not unique in English"] == {"en": 2}
    assert pairs.meta["dropped"]["section under 8 words in English"] == {"en": 1}


@pytest.fixture
def shared_dir(tmp_path: Path) -> Path:
    """Thirty pages, two in three with a section of one of three headings, and one of a heading that all have."""
    pages = {}
    for i in range(30):
        pages[f"p{i:02}.html"] = [
            (f"h{i}", f"Heading {i}"),
            (f"b{i}", f"Page {i} says {LONG}"),
            (f"c{i}", f"then page {i} ends"),
            (f"hs{i}", f"Sharing {i % 3}" if i % 3 else f"Once {i}"),
            (f"s{i}", f"what {i} shares"),
            (f"t{i}", f"is with {i}"),
            (f"ha{i}", "All"),
            (f"a{i}", f"all pages have this section {i}"),
        ]
    for folder, texts_of in (("en-US", pages), ("de", translated(pages, "de"))):
        write(tmp_path / "help", folder, texts_of)
    return tmp_path / "help"


def asked_and_answered(pairs: ParallelPairs, split: str) -> set[tuple[str, str]]:
    """The English texts of a split's edges."""
    english = pairs.languages.index("en")
    edges = pairs.split_edges(split)
    sides = ((pairs.queries, edges[:, 0]), (pairs.passages, edges[:, 1]))
    return set(zip(*(table.texts(table.rows[groups, english]) for table, groups in sides), strict=True))


def test_a_heading_that_few_sections_share_is_one_question_with_several_answers(paths: PathsConfig, shared_dir: Path) -> None:
    shares = {"validation_share": 0.2, "test_share": 0.2}
    alone = source(paths, shared_dir, "de", "en", **shares).pairs()
    pairs = source(paths, shared_dir, "de", "en", shared_headings=True, **shares).pairs()
    for split in ("validation", "test"):
        assert len(held := asked_and_answered(alone, split)) > 2
        assert asked_and_answered(pairs, split) == held
    train = {question.split()[1] for question, _ in asked_and_answered(alone, "train")}
    more = asked_and_answered(pairs, "train") - asked_and_answered(alone, "train")
    expected = {f"Sharing {int(i) % 3}" if int(i) % 3 else f"Once {i}": set() for i in train}
    for i in train:
        expected[f"Sharing {int(i) % 3}" if int(i) % 3 else f"Once {i}"].add(f"what {i} shares is with {i}")
    expected = {question: answers for question, answers in expected.items() if len(answers) <= 10}
    assert any(len(answers) > 1 for answers in expected.values())
    assert more == {(question, answer) for question, answers in expected.items() for answer in answers}
    english = pairs.languages.index("en")
    for question, answers in expected.items():
        (row,) = [row for row in pairs.queries.rows[:, english].tolist() if pairs.queries.texts([row]) == [question]]
        known = pairs.answers_by_query[int(pairs.queries.groups[row])]
        assert set(pairs.passages.texts(pairs.passages.rows[known, english])) == answers


def test_an_opening_is_answered_by_its_section_in_training_alone(paths: PathsConfig, shared_dir: Path) -> None:
    alone = source(paths, shared_dir, "de", "en", test_share=0.3).pairs()
    pairs = source(paths, shared_dir, "de", "en", test_share=0.3, openings=True).pairs()
    assert asked_and_answered(pairs, "test") == asked_and_answered(alone, "test")
    train = asked_and_answered(alone, "train")
    opened = {(answer.partition(" then")[0], answer) for _, answer in train}
    assert asked_and_answered(pairs, "train") == train | opened
    assert len(pairs.split_edges("train")) == 2 * len(train)


def test_no_text_that_is_held_out_is_trained_on(paths: PathsConfig, shared_dir: Path) -> None:
    """A translation may make equal what differs in English."""
    held = source(paths, shared_dir, "de", "en", test_share=0.3).pairs()
    queries, passages = held.split_rows("test")
    closed = {*held.queries.texts(queries), *held.passages.texts(passages)}
    (heading, _), *_ = sorted(asked_and_answered(held, "test"))
    number = heading.split()[1]
    page = shared_dir / "de" / "text" / f"p{int(number):02}.html"
    for file in sorted((shared_dir / "de" / "text").iterdir()):
        if file != page:
            file.write_text(
                file.read_text().replace("de: Sharing 1", f"de:\u00a0Heading {number}").replace("de: Once", "de: Only")
            )
    pairs = source(paths, shared_dir, "de", "en", test_share=0.3, shared_headings=True, openings=True).pairs()
    queries, passages = pairs.split_rows("train")
    trained = [*pairs.queries.texts(queries), *pairs.passages.texts(passages)]
    assert {text_key(text) for text in closed}.isdisjoint(map(text_key, trained))
    assert dropped(pairs, "text for training that is held out", "de") > 1


def test_components_are_those_of_pages_that_share_a_block_of_four_words() -> None:
    rng = random.Random(0)
    for _ in range(20):
        pages = {}
        for i in range(12):
            shared = [(f"s{n}", (False, f"block that is number {rng.randrange(14)}")) for n in range(2)]
            short = ("t", (False, f"short {rng.randrange(3)}"))
            pages[f"p{i:02}"] = {"h": (True, f"Heading {i}"), **dict(shared), "t": short[1], "b": (False, f"{i} {LONG}")}
        items, _ = select_items(pages)
        assert len(items) == 12
        group = {page: {page} for page in pages}
        for left in pages:
            for right in pages:
                common = {text for _, text in pages[left].values()} & {text for _, text in pages[right].values()}
                if any(len(text.split()) >= 4 for text in common) and group[left] is not group[right]:
                    group[left] |= group[right]
                    for page in group[right]:
                        group[page] = group[left]
        assert first_pages(pages, items) == {page: min(group[page]) for page in pages}


@pytest.mark.parametrize("validation", [0.3, 0.5, 0.7])
def test_pages_of_a_component_fall_in_one_split_whatever_the_shares(
    validation: float, paths: PathsConfig, help_dir: Path
) -> None:
    apart = 0
    for test in (0.0, 0.1, 0.2, 0.3):
        pairs = source(paths, help_dir, "en", validation_share=validation, test_share=test).pairs()
        split_of_page = {}
        for split in SPLITS:
            for group in pairs.split_edges(split)[:, 0]:
                split_of_page[pairs.queries.ids(pairs.queries.rows[group])[0].split("#")[0]] = split
        assert len(split_of_page) == 10
        assert split_of_page["p0.html"] == split_of_page["p1.html"]
        apart += len(set(split_of_page.values())) > 1
    assert apart == 4


def test_a_changed_page_is_seen(paths: PathsConfig, help_dir: Path) -> None:
    chosen = source(paths, help_dir, "de")
    first = chosen.pairs()
    assert chosen.pairs().directory == first.directory
    (help_dir / "de" / "text" / "p4.html").write_text(html([("h4", "Neu"), ("b4", "Ganz neu")]))
    assert texts(chosen.pairs(), "queries", "de")["p4.html"] == "Neu"


def test_folders_that_are_not_there_are_named(paths: PathsConfig, help_dir: Path, tmp_path: Path) -> None:
    assert source(paths, help_dir, "de").at_hand()
    nowhere = source(paths, tmp_path / "nowhere", "de")
    assert not nowhere.at_hand()
    with pytest.raises(InputError, match=r"dataset\.help_dir=.*nowhere is not a folder"):
        nowhere.pairs()
    with pytest.raises(InputError, match=r"dataset\.languages asks for 'pt_pt', which the data lacks; did you mean 'pt_br'"):
        source(paths, help_dir, "de", "pt_pt").pairs()
    shutil.rmtree(help_dir / "en-US")
    with pytest.raises(InputError, match=r"lacks .*en-US/text: English decides"):
        source(paths, help_dir, "de").pairs()


def test_damaged_pages_are_named(paths: PathsConfig, help_dir: Path) -> None:
    (help_dir / "de" / "text" / "p4.html").write_text("")
    with pytest.raises(InputError, match=r"de: page p4\.html is empty"):
        source(paths, help_dir, "de").pairs()
    shutil.rmtree(help_dir / "de" / "text")
    (help_dir / "de" / "text").mkdir()
    with pytest.raises(InputError, match=r"de holds no help pages"):
        source(paths, help_dir, "de").pairs()


@pytest.mark.parametrize("language", ["DE", "pt-br", "d", "german", ""])
def test_codes_that_are_not_bcp47_with_underscores_are_refused(language: str, paths: PathsConfig) -> None:
    with pytest.raises(InputError, match=f"dataset.languages holds '{language}'"):
        source(paths, None, "en", language)


def test_no_languages_are_refused(paths: PathsConfig) -> None:
    with pytest.raises(InputError, match=r"dataset\.languages is empty"):
        source(paths, None)


def test_codes_become_folders_and_packages() -> None:
    codes = {"en": "en-US", "zh": "zh-CN", "zh_tw": "zh-TW", "pt_br": "pt-BR", "de": "de", "en_gb": "en-GB"}
    assert {code: folder_name(code) for code in codes} == codes
    assert {spelt(folder): folder for folder in codes.values()} == codes
    assert package_name("pt_br") == "libreoffice-help-pt-br"
    assert package_name("en") == "libreoffice-help-en-us"


def deb(folder: Path, package: str, language_folder: str, pages: Mapping[str, Blocks]) -> Path:
    """A package file as the distribution makes them, with one file that is no page."""
    root = folder / package
    write(root / "usr/share/libreoffice/help", language_folder, pages)
    (root / "usr/share/libreoffice/help" / language_folder / "text" / "style.css").write_text("p {}")
    (root / "usr/share/libreoffice/help" / language_folder / "langnames.html").write_text("<html></html>")
    (root / "DEBIAN").mkdir()
    control = f"Package: {package}\nVersion: 1:2-3\nArchitecture: all\nMaintainer: nobody <a@b.c>\nDescription: test\n"
    (root / "DEBIAN" / "control").write_text(control)
    file = folder / f"{package}_1%3a2-3_all.deb"
    subprocess.run(["dpkg-deb", "--build", "-Znone", str(root), str(file)], check=True, capture_output=True)
    return file


needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not there")


@needs_dpkg
def test_a_package_reads_as_its_folder(tmp_path: Path) -> None:
    pages = {"deep/p.html": [("h", "Überschrift"), ("b", "Absatz")], "a.html": [("h", "Eins"), ("b", "Zwei")]}
    package = deb(tmp_path, "libreoffice-help-de", "de", pages)
    write(tmp_path / "folder", "de", pages)
    found = read_pages(package)
    assert list(read_all([package, tmp_path / "folder" / "de"], 2)) == [found, found]
    assert found["deep/p.html"] == {"h": (True, "Überschrift"), "b": (False, "Absatz")}


@needs_dpkg
@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_a_damaged_package_is_named(kept: int, tmp_path: Path) -> None:
    package = deb(tmp_path, "libreoffice-help-de", "de", translated(english_pages(), "de"))
    content = package.read_bytes()
    assert len(content) > 3000
    package.write_bytes(content[:kept])
    with pytest.raises(InputError, match=r"libreoffice-help-de_.*\.deb is damaged: delete it"):
        read_pages(package)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with packages for English and German, in the folder that is returned; none is installed."""
    served = tmp_path / "served"
    served.mkdir()
    english = english_pages()
    deb(served, "libreoffice-help-en-us", "en-US", english)
    deb(served, "libreoffice-help-de", "de", translated(english, "de"))
    commands = tmp_path / "commands"
    commands.mkdir()
    body = f'for name; do :; done; cp {served}/"$name"_*.deb . || {{ echo "E: cannot fetch $name" >&2; exit 100; }}'
    (commands / "apt-get").write_text(f"#!/bin/sh\n{body}\n")
    (commands / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    return served


@needs_dpkg
def test_packages_are_downloaded_once_and_recorded(paths: PathsConfig, help_dir: Path, distribution: Path) -> None:
    chosen = source(paths, None, "de", "en")
    assert not chosen.at_hand()
    pairs = chosen.pairs()
    assert pairs.passages.texts() == source(paths, help_dir, "de", "en").pairs().passages.texts()
    recorded: dict[str, Any] = pairs.meta["provenance"]["packages"]
    assert sorted(recorded) == ["libreoffice-help-de_1%3a2-3_all.deb", "libreoffice-help-en-us_1%3a2-3_all.deb"]
    assert all(len(checksum) == 64 for checksum in recorded.values())
    assert chosen.at_hand()
    shutil.rmtree(distribution)
    source(paths, None, "de", "en", test_share=0.5).pairs()


@needs_dpkg
def test_a_download_that_fails_says_what_to_do(paths: PathsConfig, distribution: Path) -> None:
    with pytest.raises(
        InputError, match=r"cannot download libreoffice-help-pt-br \(E: .*apt-get update.*check dataset\.languages"
    ) as caught:
        source(paths, None, "pt_br").pairs()
    assert "\n" not in str(caught.value)
    assert not list((Path(paths.cache) / "downloads").rglob("*pt-br*"))


def test_without_apt_it_says_what_to_do(paths: PathsConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"apt-get is not there .*set dataset\.help_dir"):
        source(paths, None, "de").pairs()
