"""Files of translations: what is one group, what is held out, what columns hold, and what is refused."""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from hybrid_retrieval.config import PathsConfig, choice_values, config_directory
from hybrid_retrieval.data.parallel import ParallelPairs, text_key
from hybrid_retrieval.data.source import Source, split_of
from hybrid_retrieval.data.sources.parallel_text import ParallelText
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.values import build

DATA = os.environ.get("HYBRID_RETRIEVAL_DATA")
Write = Callable[..., Path]
TEXTS = {
    "de-DE.tsv": "a\tDas erste.\nb\tDas zweite.\n",
    "en.tsv.gz": "a\tThe first.\nb\tThe second.\nc\tThe third.\n",
    "zh_TW.tsv.xz": "id\ttext\na\t第一\nc\t第三\n",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files by name into a folder below the data folder, packed as their names say."""
    pack = {".gz": gzip.compress, ".xz": lzma.compress}

    def write(files: Mapping[str, str], folder: str = "set") -> Path:
        root = tmp_path / "local" / folder
        root.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / name).write_bytes(pack.get(Path(name).suffix, bytes)(text.encode()))
        return root

    return write


def groups(pairs: ParallelPairs, split: str = "train") -> list[dict[str, tuple[str, str]]]:
    """For each edge of a split, what asks and what answers, by language, "" for what is not there."""
    found = []
    for edge in pairs.split_edges(split).tolist():
        rows = zip(pairs.languages, pairs.queries.rows[edge[0]].tolist(), pairs.passages.rows[edge[1]].tolist(), strict=True)
        sides = (pairs.queries, pairs.passages)
        texts = {
            name: tuple(side.texts([row])[0] if row >= 0 else "" for side, row in zip(sides, both, strict=True))
            for name, *both in rows
        }
        found.append({name: (one[0], one[1]) for name, one in texts.items() if any(one)})
    return sorted(found, key=str)


def test_the_same_id_is_a_translation_and_every_text_asks_and_answers(paths: PathsConfig, write: Write) -> None:
    write(TEXTS)
    pairs = ParallelText(paths, "set", validation_share=0.0).pairs()
    assert pairs.name == "set"
    assert pairs.languages == ("de", "en", "zh_tw")
    expected = [
        {"de": "Das erste.", "en": "The first.", "zh_tw": "第一"},
        {"de": "Das zweite.", "en": "The second."},
        {"en": "The third.", "zh_tw": "第三"},
    ]
    assert groups(pairs) == [{language: (text, text) for language, text in group.items()} for group in expected]
    assert pairs.queries.ids([0]) == ["a"]
    assert pairs.meta["provenance"] == {"path": str(write({})), "version": 1}


def test_a_pivot_keeps_what_has_a_translation_in_it(paths: PathsConfig, write: Write) -> None:
    write({**TEXTS, "fr.tsv": "a\tLe premier.\nd\tLe quatrième.\n"})
    pairs = ParallelText(paths, "set", pivot="de", validation_share=0.0).pairs()
    assert [set(group) for group in groups(pairs)] == [{"de", "en", "fr", "zh_tw"}, {"de", "en"}]
    assert pairs.meta["dropped"] == {"texts without one in de": {"en": 1, "fr": 1, "zh_tw": 1}}
    with pytest.raises(InputError, match=r"dataset\.pivot='de' is no language that is read"):
        ParallelText(paths, "set", pivot="de", languages=["en", "fr"]).pairs()


def test_columns_make_up_ids_and_texts_with_alternatives(paths: PathsConfig, write: Write) -> None:
    write(
        {
            "en.tsv": 'city\tx\tBig_Town\tbig | town|Big Town | |huge\tnote\nemoji\tx\t"quoted\t\n',
            "deu.tsv": "city\tx\tStadt\t\n",
        }
    )
    options: dict[str, Any] = {"id_columns": [1, 2], "text_columns": [3, 4], "separator": "|", "replace": {"_": " "}}
    pairs = ParallelText(paths, "set", **options, validation_share=0.0).pairs()
    both = [{"de": "Stadt", "en": "Big Town, big, town, huge"}, {"en": '"quoted'}]
    assert groups(pairs) == [{language: (text, text) for language, text in group.items()} for group in both]
    assert pairs.queries.ids([0]) == ["city/x"]
    few = ParallelText(paths, "set", **options, alternatives=2, languages=["en"], validation_share=0.0).pairs()
    assert groups(few)[1] == {"en": ("Big Town, big", "Big Town, big")}


def test_shares_are_drawn_by_id_and_what_is_held_out_is_not_trained_on(paths: PathsConfig, write: Write) -> None:
    count = 400
    names = {"en": lambda i: f"text {i // 2}", "de": lambda i: f"Text {i}"}
    write({f"{language}.tsv": "".join(f"n{i}\t{name(i)}\n" for i in range(count)) for language, name in names.items()})
    pairs = ParallelText(paths, "set", validation_share=0.2, test_share=0.1).pairs()
    ids = {
        split: {pairs.queries.ids([rows.max()])[0] for rows in pairs.queries.rows[pairs.split_edges(split)[:, 0]]}
        for split in ("train", "validation", "test")
    }
    for split, found in ids.items():
        assert found == {f"n{i}" for i in range(count) if split_of(f"n{i}", 0.2, 0.1) == split}
        assert found
    texts = {split: set(pairs.passages.texts(pairs.split_rows(split)[1])) for split in ids}
    assert not texts["train"] & (texts["validation"] | texts["test"])
    both = sum(split_of(f"n{i}", 0.2, 0.1) == "train" != split_of(f"n{i ^ 1}", 0.2, 0.1) for i in range(count))
    reason = "for training whose text is held out"
    assert pairs.meta["dropped"] == {f"queries {reason}": {"en": both}, f"passages {reason}": {"en": both}}


def test_a_table_says_the_split(paths: PathsConfig, write: Write) -> None:
    table = "id\tlabel\tpart\na\tx\ttrain\nb\ty\tdev\nc\tz\ttest\nd\tz\ttest\n"
    write({**TEXTS, "meta.tsv.gz": table})
    options = {"split_file": "meta.tsv.gz", "split_column": "part"}
    pairs = ParallelText(paths, "set", **options).pairs()  # type: ignore[arg-type]
    assert [groups(pairs, split)[0]["en"][0] for split in ("train", "validation", "test")] == [
        "The first.",
        "The second.",
        "The third.",
    ]
    assert len(pairs.edges) == 3
    before = pairs.meta["fingerprint"]
    write({"meta.tsv.gz": table.replace("dev", "train")})
    assert ParallelText(paths, "set", **options).pairs().meta["fingerprint"] != before  # type: ignore[arg-type]


def test_empty_texts_are_counted(paths: PathsConfig, write: Write) -> None:
    write({"en.tsv": "a\t \nb\tSome.\n", "de.tsv": "a\tEtwas.\n"})
    pairs = ParallelText(paths, "set", validation_share=0.0).pairs()
    assert pairs.empty == 2
    assert len(pairs.edges) == 2


def test_files_of_no_language_are_named(paths: PathsConfig, write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write({**TEXTS, "notes.tsv": "x"})
    with caplog.at_level("INFO"):
        assert ParallelText(paths, "set").offered() == ["de", "en", "zh_tw"]
    assert "not read, being named after no language: notes.tsv" in caplog.text
    assert ParallelText(paths, "gone").offered() is None
    assert not ParallelText(paths, "gone").at_hand()


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {"path": None}, r"^dataset\.path is missing: name a folder with <language>\.tsv in it$"),
        ({}, {"path": "gone"}, r"dataset\.path=.*gone is not a folder; expected <language>\.tsv \("),
        ({"notes.tsv": "x"}, {}, r"dataset\.path=.*set has no file of a language; expected <language>\.tsv \("),
        ({"de.tsv": "a\tb\n", "de.tsv.gz": "a\tb\n"}, {}, r"de\.tsv lies beside de\.tsv\.gz: keep one"),
        ({"de.tsv": "a\tb\n", "deu.tsv": "a\tb\n"}, {}, r"dataset\.path=.*set has de and deu, which are both de"),
        ({"de.tsv": "a\tb\na\tc\n"}, {}, r"de\.tsv, line 2: id 'a' is already in an earlier line"),
        ({"de.tsv": "a\tb\nc\n"}, {}, r"de\.tsv, line 2: 1 fields; expected 2, by dataset\.id_columns and"),
        ({"de.tsv": "\tb\n"}, {}, r"de\.tsv, line 1: the id is ''; expected an id"),
        ({"de.tsv": ""}, {}, r"de\.tsv is empty; expected lines"),
        ({"de.tsv": "a\t \n"}, {}, r"set: no text in de"),
        ({}, {"languages": ["fr"]}, r"dataset\.languages asks for 'fr', which the data lacks"),
        ({}, {"languages": []}, r"dataset\.languages is empty"),
        ({}, {"pivot": "fr"}, r"dataset\.pivot='fr' is no language that is read"),
        ({}, {"id_columns": []}, r"dataset\.id_columns is empty"),
        ({}, {"text_columns": [0]}, r"dataset\.text_columns.*0"),
        ({}, {"separator": ""}, r"dataset\.separator and the names of dataset\.replace must not be empty"),
        ({}, {"alternatives": 0}, r"dataset\.alternatives=0 must be above 0"),
        ({}, {"validation_share": 0.6, "test_share": 0.6}, r"are more than 1 together"),
        ({}, {"validation_share": 2}, r"dataset\.validation_share=2 is outside"),
        ({}, {"split_file": "gone.tsv"}, r"gone\.tsv cannot be read"),
        (
            {"m.tsv": "id\tsplit\na\ttrain\n"},
            {"split_file": "m.tsv"},
            r"m\.tsv lacks id 'b'; expected every id of dataset\.path",
        ),
        (
            {"m.tsv": "id\tsplt\n"},
            {"split_file": "m.tsv"},
            r"m\.tsv, line 1: no column 'split' after 'id'; did you mean 'splt'",
        ),
        ({"m.tsv": "id\tsplit\na\n"}, {"split_file": "m.tsv"}, r"m\.tsv, line 2: 1 fields; expected 2 \(id, split\)"),
        ({"m.tsv": "id\tsplit\na\tno\n"}, {"split_file": "m.tsv"}, r"split of id 'a' is 'no'; expected one of: train, dev"),
    ],
)
def test_bad_input_is_named(
    files: dict[str, str], options: dict[str, Any], message: str, paths: PathsConfig, write: Write
) -> None:
    write(files if any(name.startswith(("de", "notes")) for name in files) else {**TEXTS, **files})
    with pytest.raises(InputError, match=message) as raised:
        ParallelText(paths, **{"path": "set", **options}).pairs()
    assert "\n" not in str(raised.value)


def test_damaged_xz_is_named(paths: PathsConfig, write: Write) -> None:
    file = write({"de.tsv.xz": "a\tb\n" * 1000}) / "de.tsv.xz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"de\.tsv\.xz: damaged or truncated after line"):
        ParallelText(paths, "set").pairs()
    file.write_bytes(b"no xz at all")
    with pytest.raises(InputError, match=r"de\.tsv\.xz: damaged or truncated after line 0"):
        ParallelText(paths, "set").pairs()


def real(tmp_path: Path, dataset: str, **options: Any) -> ParallelPairs:
    """A set of the data folder by its config."""
    folder = options.get("path") or choice_values("dataset", dataset)["path"]
    if DATA is None or not (Path(DATA) / folder).is_dir():
        pytest.skip(f"{folder} is not in HYBRID_RETRIEVAL_DATA")
    values = OmegaConf.to_container(OmegaConf.merge(choice_values("dataset", dataset), options), resolve=True)
    assert isinstance(values, dict)
    node = {str(key): value for key, value in values.items()}
    source = build(node, Source, "dataset", paths=PathsConfig(data=DATA, cache=str(tmp_path)))
    pairs = source.pairs()
    assert isinstance(pairs, ParallelPairs)
    return pairs


def lines(folder: str, name: str) -> int:
    """How many lines a file of the data folder has."""
    assert DATA is not None
    content = (Path(DATA) / folder / name).read_bytes()
    return (lzma if name.endswith(".xz") else gzip).decompress(content).count(b"\n")


MASSIVE = {"path": "massive-1.1", "split_file": "meta.tsv.gz", "split_column": "partition"}


@pytest.mark.parametrize(
    ("dataset", "options", "counts", "translations"),
    [
        (
            "parallel_text",
            {"path": "parallel-text/debian-installation-guide"},
            {"en": 1521, "hu": 950, "ja": 1401, "zh": 1476, "de": 1503, "fi": 903, "ro": 1511},
            {},
        ),
        pytest.param(
            "parallel_text",
            {"path": "parallel-text/debian-handbook", "languages": ["ar", "de", "fa", "nb", "pt_br", "zh", "zh_tw"]},
            {"ar": 2858, "de": 3418, "fa": 2734, "nb": 3624, "pt_br": 3441, "zh": 3078, "zh_tw": 1738},
            {"advanced-administration#advanced-administration.2": {"de": "12.1. RAID und LVM"}},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "parallel_text",
            {"path": "parallel-text/wesnoth-1.16", "languages": ["de", "el", "ko", "pt", "pt_br", "zh", "zh_tw"]},
            {"de": 10860, "el": 2896, "ko": 3163, "pt": 7476, "pt_br": 11046, "zh": 11070, "zh_tw": 10738},
            {"a1ccf50c46b1": {"de": "4S – Eine neue Heimat"}},
            marks=pytest.mark.slow,
        ),
        (
            "parallel_text",
            {"path": "parallel-text/gnome-help-43", "languages": ["de", "sr", "sr_latn"]},
            {"de": 2638, "sr": 2562, "sr_latn": 1910},
            {"a11y#title": {"de": "Barrierefreiheit"}},
        ),
        (
            "parallel_text",
            {**MASSIVE, "languages": ["de", "en", "zh_tw"]},
            {"de": 16521, "en": 16521, "zh_tw": 16521},
            {"1": {"de": "weck mich am freitag um neun uhr auf", "en": "wake me up at nine am on friday"}},
        ),
        pytest.param(
            "omw_lexicon",
            {"languages": ["ar", "el", "fr", "ms", "zh"]},
            {"ar": 9916, "el": 18049, "fr": 59091, "ms": 36911, "zh": 42300},
            {"00001740-v": {"fr": "inspirer, respirer", "zh": "吸, 呼吸, 进气"}, "00001740-a": {"zh": "可以的, 有能力的, 能"}},
            marks=pytest.mark.slow,
        ),
        (
            "cldr_names",
            {"languages": ["de", "en", "ja"]},
            {"de": 5839, "en": 5488, "ja": 5825},
            {
                "emoji/🏻": {"de": "helle Hautfarbe, Hautfarbe, Hauttyp 1–2"},
                "territory/DE": {"de": "Deutschland", "en": "Germany"},
            },
        ),
    ],
    ids=lambda value: value.get("path") if isinstance(value, dict) else value,
)
def test_published_sets_are_read_whole(
    dataset: str, options: dict[str, Any], counts: dict[str, int], translations: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    pairs = real(tmp_path, dataset, **options)
    for side in ("queries", "passages"):
        table = getattr(pairs, side)
        left_out = pairs.meta["dropped"].get(f"{side} for training whose text is held out", {})
        assert set(pairs.meta["dropped"]) <= {f"{one} for training whose text is held out" for one in ("queries", "passages")}
        found = {language: count + left_out.get(language, 0) for language, count in pairs.meta["counts"][side].items()}
        assert found | counts == found
        ids = table.column("id")
        place = {(id_, language): row for row, (id_, language) in enumerate(zip(ids, table.languages.tolist(), strict=True))}
        for id_, texts in translations.items():
            rows = [place[id_, pairs.languages.index(language)] for language in texts]
            assert dict(zip(texts, table.texts(rows), strict=True)) == texts
            assert len({int(group) for group in table.groups[rows]}) == 1
    train, *held_out = (pairs.split_rows(split)[1] for split in ("train", "validation", "test"))
    assert len(held_out[0])
    keys = pairs.passages.keys * 64 + pairs.passages.languages
    assert not np.isin(keys[train], keys[np.concatenate(held_out)]).any()
    if options.get("split_file"):
        assert [len(pairs.split_edges(split)) for split in ("validation", "test")] == [2033, 2974]
        assert 11514 - 33 <= len(pairs.split_edges("train")) <= 11514


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["wesnoth-1.16", "debian-handbook", "debian-installation-guide", "gnome-help-43"])
def test_every_language_of_a_folder_is_read_and_nothing_of_the_news_that_test(folder: str, tmp_path: Path) -> None:
    pairs = real(tmp_path, "parallel_text", path=f"parallel-text/{folder}", validation_share=0.0)
    assert DATA is not None
    files = sorted(file.name for file in (Path(DATA) / "parallel-text" / folder).glob("*.tsv.gz"))
    assert len(pairs.languages) == len(files)
    assert sorted(pairs.meta["counts"]["queries"].values()) == sorted(lines(f"parallel-text/{folder}", name) for name in files)
    news = sorted((Path(DATA) / "ntrex-128").glob("newstest*.txt.gz"))
    held_out = {text_key(line) for file in news for line in gzip.decompress(file.read_bytes()).decode().split("\n")}
    assert not held_out & set(pairs.passages.keys.tolist())


def test_no_config_trains_on_a_folder_that_is_for_testing() -> None:
    for file in (config_directory() / "dataset").glob("*.yaml"):
        if "path" in (values := choice_values("dataset", file.stem)):
            testing = ("ntrex", "tatoeba", "xsid", "mtop", "demetr", "xquad", "tydiqa")
            assert not str(values["path"]).startswith(testing), file
