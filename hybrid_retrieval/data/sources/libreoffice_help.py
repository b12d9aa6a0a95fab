"""LibreOffice's help: product documentation, parallel by page path and block id in some 35 languages (MPL-2.0).

A heading is the query, the text of its section the passage. What is kept is decided in English, so that it does not
depend on the languages chosen: headings whose text no other heading has, with a section of eight words or more. In
another language, blocks that are missing, empty, still in English or repeated in their section are dropped, and so are
headings and passages whose text another item has too (nobody could tell which one answers).

Training has two kinds of pairs that the other splits lack. Of the headings that are not kept, those that at most ten sections
share (``shared_headings``): a question with several answers. And the first paragraph of a section as a question that the
section answers (``openings``), across languages a translation to find. No page or paragraph of them is held out.

Pages that share identical blocks are one component, and a component falls whole into train, validation or the held-out
test split, by a hash of its first page. Only blocks of kept sections with at least four words count: table cells such
as "Integer" would chain two fifths of the manual into one component.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from hybrid_retrieval.cache import folder_state
from hybrid_retrieval.data.help_pages import (
    PACKAGED,
    Pages,
    download,
    folder_name,
    installed_version,
    package_name,
    read_all,
    sections,
)
from hybrid_retrieval.data.languages import spelt
from hybrid_retrieval.data.parallel import PairsWriter, text_key
from hybrid_retrieval.data.source import BuiltSource, choose_languages, components, same_item_edges
from hybrid_retrieval.errors import InputError
from hybrid_retrieval.files import sha256
from hybrid_retrieval.progress import track
from hybrid_retrieval.values import Share, check

SECTION_WORDS = 8
LINK_WORDS = 4
SHARED_BY = 10
"""Sections of a heading that is trained on though it is not kept; what more share, as "Parameters:", asks for nothing."""


@dataclass(frozen=True)
class Item:
    """A section: where it is, and the blocks of its passage in English."""

    page: str
    heading: str
    blocks: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.page}#{self.heading}"

    def title(self, pages: Pages) -> str:
        """The text of its heading."""
        return pages[self.page][self.heading][1]


@dataclass(eq=False)
class LibreOfficeHelp(BuiltSource):
    """The help pages, from a folder, an earlier build, an installed package, or the distribution's packages."""

    languages: list[str] = field(kw_only=True)
    help_dir: str | None = None
    validation_share: Share = 0.05
    test_share: Share = 0.12
    shared_headings: bool = True
    openings: bool = True

    name = kind = "libreoffice_help"
    license = "mpl-2.0"
    version = 2
    installed: ClassVar[Path] = Path("/usr/share/libreoffice/help")
    processes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check(type(self), vars(self), "dataset")
        for language in self.languages:
            if not re.fullmatch(r"[a-z]{2,3}(_[a-z]{2,4})?", language):
                raise InputError(f"dataset.languages holds {language!r}; expected BCP 47 with underscores, as de or pt_br")
        if not self.languages:
            raise InputError("dataset.languages is empty; expected languages such as [de,en]")
        self.languages = sorted(set(self.languages))
        self._help_dir = Path(self.help_dir).expanduser() if self.help_dir else None
        self._downloads = Path(self.paths.cache).expanduser() / "downloads" / self.name

    def chosen(self) -> list[str]:
        return self.languages

    def offered(self) -> list[str]:
        return self._present() if self._help_dir else PACKAGED.split()

    def _present(self) -> list[str]:
        """The languages below ``help_dir``."""
        assert self._help_dir is not None
        return [spelt(text.parent.name) for text in self._help_dir.glob("*/text")]

    def state(self) -> list[Any] | None:
        if not self._help_dir:
            return None
        texts = [folder / "text" for folder in self._folders(self._help_dir).values()]
        return [folder_state(text) for text in texts if text.is_dir()]

    @property
    def _read(self) -> list[str]:
        """The languages to read: English decides what is kept, whether it is asked for or not."""
        return sorted({*self.languages, "en"})

    def _folders(self, root: Path) -> dict[str, Path]:
        return {language: root / folder_name(language) for language in self._read}

    def _all_in(self, root: Path) -> bool:
        return all((folder / "text").is_dir() for folder in self._folders(root).values())

    def at_hand(self) -> bool:
        if self._help_dir:
            return self._all_in(self._help_dir)
        return self.built() or self._all_in(self.installed) or all(map(self._package, self._read))

    def _package(self, language: str) -> Path | None:
        return max(self._downloads.glob(f"{package_name(language)}_*.deb"), default=None)

    def write(self, writer: PairsWriter) -> None:
        places, provenance = self._find()
        parsed = track(read_all(places.values(), self.processes), "reading help pages", len(places))
        pages = dict(zip(places, parsed, strict=True))
        english = pages["en"]
        kept, dropped = select_items(english)
        first_page = first_pages(english, kept)
        edges = same_item_edges([first_page[item.page] for item in kept], self.validation_share, self.test_share)
        held_out = {int(item) for split in ("validation", "test") for item in edges[split][:, 0]}
        shared = shared_sections(english, kept, [kept[item] for item in held_out]) if self.shared_headings else []
        items = [*kept, *shared]
        asks = heading_groups([item.title(english) for item in items], len(kept))
        open_at = max(asks, default=-1) + 1
        trained = [item for item in range(len(items)) if item not in held_out] if self.openings else []
        opens = {item: open_at + place for place, item in enumerate(trained)}
        for language in self.languages:
            texts, lost = translate(items, pages[language], None if language == "en" else english)
            rows = {
                "queries": [(asks[item], item, text) for item, text in texts["queries"]]
                + [(opens[item], item, text) for item, text in texts["openings"] if item in opens],
                "passages": [(item, item, text) for item, text in texts["passages"]],
            }
            closed = {text_key(text) for found in rows.values() for _, item, text in found if item in held_out}
            for side, found in rows.items():
                by_group = distinct(found, len(kept), held_out, closed, side, lost)
                writer.write(side, language, ((group, items[item].id, text) for group, (item, text) in by_group.items()))
            for reason, count in lost.items():
                dropped[reason][language] += count
        more = [(asks[item], item) for item in range(len(kept), len(items))] + [(group, item) for item, group in opens.items()]
        edges["train"] = np.concatenate([edges["train"], np.array(more, np.int32).reshape(-1, 2)])
        writer.finish(edges, {"provenance": provenance, "dropped": dropped})

    def _find(self) -> tuple[dict[str, Path], dict[str, Any]]:
        """A folder or package for each language to read, and where they are from."""
        if self._help_dir:
            present = self._present()
            if not self._help_dir.is_dir():
                raise InputError(f"dataset.help_dir={self._help_dir} is not a folder; expected <language>/text/**/*.html in it")
            if "en" not in present:
                wanted = self._help_dir / folder_name("en") / "text"
                raise InputError(f"dataset.help_dir={self._help_dir} lacks {wanted}: English decides which sections are kept")
            choose_languages(self.languages, present)
            return self._folders(self._help_dir), {"path": str(self._help_dir)}
        if self._all_in(self.installed):
            versions = {package: installed_version(package) for package in map(package_name, self._read)}
            return self._folders(self.installed), {"path": str(self.installed), "packages": versions}
        missing = [language for language in self._read if not self._package(language)]
        for language in track(missing, "downloading help packages"):
            download(package_name(language), self._downloads)
        found = {language: package for language in self._read if (package := self._package(language))}
        return found, {"packages": {package.name: sha256(package) for package in found.values()}}


def select_items(english: Pages) -> tuple[list[Item], dict[str, Counter[str]]]:
    """The kept sections in reading order, and the count of those left out, by reason."""
    longest: dict[tuple[str, str], tuple[int, Item]] = {}
    for path, page in english.items():
        for heading, blocks in sections(page).items():
            words = sum(len(page[block][1].split()) for block in blocks)
            key = heading, page[heading][1]
            if words > longest.get(key, (-1, None))[0]:
                longest[key] = words, Item(path, heading, tuple(blocks))
    occurrences = Counter(text for _, text in longest)
    items: list[Item] = []
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for (_, text), (words, item) in longest.items():
        if not text or occurrences[text] > 1:
            dropped["heading empty or not unique in English"]["en"] += 1
        elif words < SECTION_WORDS:
            dropped[f"section under {SECTION_WORDS} words in English"]["en"] += 1
        else:
            items.append(item)
    return sorted(items, key=lambda item: (item.page, item.heading)), dropped


def shared_sections(english: Pages, kept: Sequence[Item], held_out: Sequence[Item]) -> list[Item]:
    """The sections that are not kept and may be trained on: few share their heading, and nothing of them is held out."""
    closed = {item.page for item in held_out} | {item.title(english) for item in held_out}
    closed |= {text for item in held_out for block in item.blocks if counts(text := english[item.page][block][1])}
    known = {item.id for item in kept}
    found = []
    for path, page in english.items():
        for heading, blocks in sections(page).items():
            item, texts = Item(path, heading, tuple(blocks)), [page[block][1] for block in blocks]
            asks = item.title(english) and counts(" ".join(texts)) and item.id not in known
            if asks and closed.isdisjoint([path, item.title(english), *texts]):
                found.append(item)
    sharing = Counter(item.title(english) for item in found)
    return [item for item in found if sharing[item.title(english)] <= SHARED_BY]


def counts(text: str) -> bool:
    """Whether a text is long enough to tell two sections apart."""
    return len(text.split()) >= LINK_WORDS


def first_pages(english: Pages, items: Iterable[Item]) -> dict[str, str]:
    """For each page with kept sections, the first page of its component."""
    pages = sorted({item.page for item in items})
    number = {page: index for index, page in enumerate(pages)}
    first: dict[str, int] = {}
    links: list[tuple[int, int]] = []
    for item in items:
        for block in item.blocks:
            text = english[item.page][block][1]
            if counts(text):
                links.append((number[item.page], first.setdefault(text, number[item.page])))
    labels = components(links, len(pages)).tolist()
    head: dict[int, str] = {}
    for page, label in zip(pages, labels, strict=True):
        head.setdefault(label, page)
    return {page: head[label] for page, label in zip(pages, labels, strict=True)}


def translate(
    items: Sequence[Item], pages: Pages, english: Pages | None
) -> tuple[dict[str, list[tuple[int, str]]], Counter[str]]:
    """(item, text) of the queries, passages and openings that a language has, and what was dropped.

    Args:
        english: None for English.
    """
    lost: Counter[str] = Counter()
    found: dict[str, list[tuple[int, str]]] = {"queries": [], "passages": [], "openings": []}

    def take(page: str, block: str) -> str:
        text = pages.get(page, {}).get(block, (False, ""))[1]
        if not text:
            lost["block missing or empty"] += 1
        elif english is not None and text == english[page][block][1]:
            lost["block still in English"] += 1
            return ""
        return text

    for index, item in enumerate(items):
        if heading := take(item.page, item.heading):
            found["queries"].append((index, heading))
        texts = {block: text for block in item.blocks if (text := take(item.page, block))}
        distinct = list(dict.fromkeys(texts.values()))
        lost["block repeated in its section"] += len(texts) - len(distinct)
        if distinct:
            found["passages"].append((index, " ".join(distinct)))
        long = (text for block, text in texts.items() if counts((english or pages)[item.page][block][1]))
        if opening := next(long, None):
            found["openings"].append((index, opening))
    return found, lost


def heading_groups(titles: Sequence[str], kept: int) -> list[int]:
    """The query group of each item's heading: its own of the first `kept`, one for all of the others that share a title."""
    shared = {title: kept + place for place, title in enumerate(dict.fromkeys(titles[kept:]))}
    return [item if item < kept else shared[title] for item, title in enumerate(titles)]


def distinct(
    rows: Iterable[tuple[int, int, str]],
    kept: int,
    held_out: Container[int],
    closed: Container[int],
    side: str,
    lost: Counter[str],
) -> dict[int, tuple[int, str]]:
    """The (item, text) of each group among (group, item, text) rows.

    Of the first `kept` groups, those whose text no other of them has; of the rest the first text. Nothing is trained on whose
    text (`closed`, by `text_key`) the items that are `held_out` have too. What is left out is counted in `lost`.
    """
    rows = list(rows)
    occurrences = Counter(text for group, _, text in rows if group < kept)
    found: dict[int, tuple[int, str]] = {}
    for group, item, text in rows:
        if group < kept and occurrences[text] > 1:
            lost[f"text of several {side}"] += 1
        elif item not in held_out and text_key(text) in closed:
            lost["text for training that is held out"] += 1
        else:
            found.setdefault(group, (item, text))
    return found
