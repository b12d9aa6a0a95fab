"""Which files of the hub or of a folder make up a data set: those of a subset and its splits, or those that a pattern names.

What a subset and a split are is for `datasets` to say, from the card or from the names of files and folders. Of the hub's it
is asked over empty files of the same names, so that no file is fetched which is not read.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.data.records import FORMS
from hybrid_retrieval.errors import InputError, nearest, reading
from hybrid_retrieval.files import read_mapping
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.progress import track

log = logging.getLogger(__name__)

CARD = "README.md"
OWN = ("dataset_info.json", "dataset_infos.json")
"""What `datasets` itself writes beside a set's files."""
LISTING = "files.json"
ADVICE = "name a local copy with dataset.path="
LANGUAGE, SPLIT = "{language}", "{split}"
SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")


class Part(NamedTuple):
    """A file of a split; with its language, where its name or its subset says it."""

    split: str
    language: str | None
    file: str


@dataclass(frozen=True)
class Files:
    """What is to be read, how a file is had by its name, and the set's provenance."""

    parts: Sequence[Part]
    path: Callable[[str], Path]
    origin: Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a config asks for.

    Attributes:
        splits: what they are called there, and what they are here; train among them.
        files: patterns, with {language} and {split} in them; by default the files are those of `subset`.
        codes: languages by what stands in the place of {language}, where that is no code.
        languages: all by default.
        fixed: languages that one side has whatever the file.
    """

    splits: Mapping[str, str]
    subset: str | None = None
    files: Sequence[str] | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    languages: Sequence[str] | None = None
    fixed: Collection[str] = ()

    def local(self, root: Path) -> Files:
        """Of a file, or of a folder."""
        origin = {"path": str(root)}
        if not root.exists():
            raise InputError(f"dataset.path={root} is not there; expected a file, or a folder of files")
        if not root.is_dir():
            if others := [self._key(split) for split in self.splits.values() if split != "train"]:
                raise InputError(f"{others[0]} is not in dataset.path={root}, which is one file; expected a folder")
            return Files([Part("train", None, root.name)], root.parent.joinpath, origin)
        found = (file.relative_to(root) for file in root.rglob("*") if not file.is_dir())
        names = sorted(file.as_posix() for file in found if not any(part.startswith(".") for part in file.parts))
        return Files(self._parts(names, root, f"dataset.path={root}"), root.joinpath, origin)

    def fetched(self, hub: Hub, repository: str, revision: str | None, cache: Cache) -> Files:
        """Of a data set of the hub, at the commit that `revision` stands for."""
        commit, names = _listing(hub, repository, revision, cache)
        files: dict[str, Path] = {}

        def fetch(name: str) -> Path:
            if name not in files:
                files[name] = hub.dataset_file(repository, name, commit, ADVICE)
                cache.check_pinned((repository, commit, name), files[name])
            return files[name]

        with tempfile.TemporaryDirectory() as empty:
            for name in names:
                place = PurePosixPath(name)
                if not place.is_absolute() and ".." not in place.parts:
                    Path(empty, name).parent.mkdir(parents=True, exist_ok=True)
                    Path(empty, name).write_bytes(fetch(name).read_bytes() if name == CARD and self.files is None else b"")
            parts = self._parts(names, Path(empty), f"dataset.repository={repository}")
        for part in track(parts, f"downloading {repository}"):
            fetch(part.file)
        # The hub's cache keeps large files under their SHA-256.
        sums = {part.file: files[part.file].resolve().name for part in parts}
        return Files(parts, fetch, {"hub": repository, "revision": commit, "subset": self.subset, "checksums": sums})

    def _parts(self, names: Sequence[str], root: Path, said: str) -> list[Part]:
        """The files to read, of `names` below `root`, which errors call what is `said`."""
        published = self._published(names, root, said) if self.files is None else self._matching(names, said)
        parts = [part if part.language is None else part._replace(language=self._code(part.language)) for part in published]
        absent = set(self.languages or ()) - {part.language for part in parts} - set(self.fixed)
        if any(part.language for part in parts) and absent:
            there = sorted({str(part.language) for part in parts})
            raise InputError(f"dataset.languages asks for {min(absent)!r}, which {said} lacks{nearest(min(absent), there)}")
        parts = [part for part in parts if part.language is None or self.languages is None or part.language in self.languages]
        for part in parts:
            if shard := SHARD.fullmatch(part.file):
                start, _, total, end = shard.groups()
                all_of_it = [f"{start}-{number:05}-of-{total}{end}" for number in range(int(total))]
                if missing := sorted(set(all_of_it) - set(names)):
                    raise InputError(f"{said} lacks {missing[0]}, one of {int(total)} files that belong to {part.file}")
        return parts

    def _code(self, language: str) -> str:
        return self.codes.get(language, language)

    def _matching(self, names: Sequence[str], said: str) -> list[Part]:
        found = []
        for pattern in self.files or ():
            matches = [(name, match) for name in names if (match := spelt(pattern).fullmatch(name))]
            for name, match in matches:
                groups = match.groupdict()
                split = self.splits.get(groups["split"]) if "split" in groups else "train"
                if split is not None:
                    found.append(Part(split, groups.get("language"), name))
            if not matches:
                some = f", such as {', '.join(names[:3])}" if names else ""
                raise InputError(f"dataset.files={pattern!r} matches none of the {len(names)} files of {said}{some}")
        for split in self.splits.values():
            if not any(part.split == split for part in found):
                raise InputError(f"dataset.files={list(self.files or ())} matches no file of {self._key(split)} in {said}")
        return found

    def _published(self, names: Sequence[str], root: Path, said: str) -> list[Part]:
        if saved := self._saved(root, said):
            return saved
        import datasets

        parts, known = [], set(OWN)
        with reading(said), tempfile.TemporaryDirectory() as scratch:
            subsets = datasets.get_dataset_config_names(str(root))
            for subset, language in self._subsets(subsets, said):
                files = datasets.load_dataset_builder(str(root), subset, cache_dir=scratch).config.data_files or {}
                self._check_splits(files, said)
                known |= {
                    Path(file).absolute().relative_to(root.absolute()).as_posix() for every in files.values() for file in every
                }
                for name, split in self.splits.items():
                    below = [Path(file).absolute().relative_to(root.absolute()) for file in files[name]]
                    parts += [Part(split, language, file.as_posix()) for file in below]
        others = [name for name in names if name.removesuffix(".gz").endswith(tuple(FORMS)) and name not in known]
        if self.subset is None and others:
            log.warning(
                "%s: %d files are of no split that its files' names or forms tell, %s first, and are not read; "
                "dataset.files names files",
                *(said, len(others), others[0]),
            )
        return parts

    def _saved(self, root: Path, said: str) -> list[Part]:
        """The files of a folder that `datasets` saved to disk; none where it is another one."""
        folders: Mapping[str, str] = {"": "train"} if (root / "state.json").exists() else {}
        if (root / "dataset_dict.json").exists():
            folders = self.splits
            there = read_mapping(root / "dataset_dict.json").get("splits")
            self._check_splits(there if isinstance(there, list) else [], said)
        parts = []
        for folder, split in folders.items():
            state = root / folder / "state.json"
            files = read_mapping(state).get("_data_files")
            if not isinstance(files, list) or not all(isinstance(one, dict) and "filename" in one for one in files):
                raise InputError(f"{state} names no data files")
            parts += [Part(split, None, PurePosixPath(folder, str(one["filename"])).as_posix()) for one in files]
        return parts

    def _key(self, split: str) -> str:
        """The config's key and value for what a split is called there."""
        key = "split" if split == "train" else f"{split}_split"
        return f"dataset.{key}={next(name for name, one in self.splits.items() if one == split)!r}"

    def _check_splits(self, there: Collection[Any], said: str) -> None:
        """Refuse a split that is not there."""
        for name, split in self.splits.items():
            if name not in there:
                raise InputError(f"{self._key(split)} is unknown in {said}{nearest(name, map(str, there))}")

    def _subsets(self, subsets: Sequence[str], said: str) -> Iterable[tuple[str | None, str | None]]:
        """Those that the config names, each with its language where the name holds it."""
        if self.subset is None:
            if len(subsets) > 1:
                raise InputError(f"dataset.subset is missing; {said} has: {', '.join(subsets)[:600]}")
            return [(None, None)]
        matches = [
            (name, match.groupdict().get("language")) for name in subsets if (match := spelt(self.subset).fullmatch(name))
        ]
        if not matches:
            raise InputError(f"dataset.subset={self.subset!r} is unknown in {said}{nearest(self.subset, subsets)}")
        wanted = self.languages
        chosen = [one for one in matches if one[1] is None or wanted is None or self._code(one[1]) in wanted]
        return chosen or matches


def _listing(hub: Hub, repository: str, revision: str | None, cache: Cache) -> tuple[str, Sequence[str]]:
    """The commit and the names of its files, as they were asked for first; of an earlier download where nobody answers."""

    def ask(folder: Path) -> None:
        (folder / LISTING).write_text(
            json.dumps(dict(zip(("commit", "names"), hub.dataset_files(repository, revision, ADVICE), strict=True)))
        )

    try:
        known = read_mapping(cache.build("hub_files", [repository, revision], ask) / LISTING)
    except InputError:
        if (found := hub.cached_dataset(repository, revision)) is None:
            raise
        return found
    return str(known["commit"]), known["names"]


def spelt(pattern: str) -> re.Pattern[str]:
    """A pattern of names, with ``*``, ``**``, {language} and {split} in it."""
    found = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    for name in (LANGUAGE, SPLIT):
        group = name.strip("{}")
        found = found.replace(re.escape(name), f"(?P<{group}>[^/]+?)", 1).replace(re.escape(name), f"(?P={group})")
    return re.compile(found)
