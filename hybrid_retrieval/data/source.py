"""A data set by name: where it is found, its pairs, and in which split an item falls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hybrid_retrieval.cache import Cache
from hybrid_retrieval.config import PathsConfig
from hybrid_retrieval.data.parallel import SPLITS, PairsWriter, ParallelPairs
from hybrid_retrieval.errors import InputError, nearest
from hybrid_retrieval.hashing import text_hash

FORMAT = 3
"""Version of the files that `PairsWriter` writes."""
NOT_OF_THE_TEXT = ("paths", "query_prompt", "passage_prompt")
"""Fields of a source that do not change what is built."""


class Source(ABC):
    """A data set by name. Constructors take config values and the job's ``paths``; nothing is read before `pairs`."""

    name: str
    license: str | None = None
    """Of its text, as the hub calls licences, ``mpl-2.0``; None where it is not known."""

    @abstractmethod
    def at_hand(self) -> bool:
        """True where `pairs` needs no network."""

    @abstractmethod
    def pairs(self) -> ParallelPairs:
        """The set, built on first use.

        Raises:
            InputError: not to be found, damaged, or without the languages that were asked for.
        """

    def offered(self) -> Sequence[str] | None:
        """The languages that can be asked for; None where only reading tells."""
        return None

    def sets(self) -> list[ParallelPairs]:
        """The sets to draw training batches from."""
        return [self.pairs()]

    @property
    def text(self) -> SourceText:
        """The text that a tokenizer is trained on."""
        return SourceText(self.sets())

    def provenance(self) -> list[dict[str, Any]]:
        """The fingerprint and licence of each set, and its origin: path, or revision or version and checksum."""
        known = [(pairs.name, pairs.meta["fingerprint"], pairs.meta["provenance"]) for pairs in self.sets()]
        return [{"name": name, "fingerprint": content, "license": self.license, **origin} for name, content, origin in known]


@dataclass(frozen=True)
class SourceText:
    """The training split of sets, the same amount of every language."""

    sets: Sequence[ParallelPairs]

    @property
    def key(self) -> Any:
        """All that a sample depends on."""
        return [pairs.meta["fingerprint"] for pairs in self.sets]

    def sample(self, characters: int) -> list[str]:
        """Passages and questions in a fixed random order, about `characters` of each language, from all sets alike."""
        texts: list[str] = []
        each = characters // len(self.sets)
        for pairs in self.sets:
            queries, passages = pairs.split_rows("train")
            for index in range(len(pairs.languages)):
                for table, rows, amount in ((pairs.passages, passages, each * 3 // 4), (pairs.queries, queries, each // 4)):
                    mine = rows[table.languages[rows] == index]
                    mine = np.random.default_rng(index).permutation(mine)[: amount // 4 + 1]
                    sampled = table.texts(mine)
                    before = np.cumsum([0, *map(len, sampled)])[:-1]
                    texts += [text for text, start in zip(sampled, before.tolist(), strict=True) if start < amount]
        return texts


@dataclass(eq=False)
class BuiltSource(Source):
    """A source that is read once and then lies in the cache, under a key of its version, its fields and its state.

    Fields are the keys of its config, ``conf/dataset/NAME.yaml``, which explains them.
    """

    paths: PathsConfig = field(default_factory=PathsConfig)
    query_prompt: str = field(default="", kw_only=True)
    passage_prompt: str = field(default="", kw_only=True)

    kind: ClassVar[str]
    """Folder in the cache."""
    version: ClassVar[int]
    """Version of the code that reads it."""

    @abstractmethod
    def chosen(self) -> Sequence[str]:
        """The languages to read."""

    @abstractmethod
    def write(self, writer: PairsWriter) -> None:
        """Write texts and edges."""

    def state(self) -> Any:
        """A JSON value that changes when local files do."""
        return None

    def pairs(self) -> ParallelPairs:
        def make(directory: Path) -> None:
            self.write(PairsWriter(directory, self.name, self.chosen()))

        pairs = ParallelPairs.open(Cache.at(self.paths.cache).build(*self._place(), make))
        prompts = {"queries": self.query_prompt, "passages": self.passage_prompt}
        return replace(pairs, prompts={side: prompt for side, prompt in prompts.items() if prompt})

    def built(self) -> bool:
        """True where the pairs are in the cache."""
        return Cache.at(self.paths.cache).directory(*self._place()).exists()

    def _place(self) -> tuple[str, dict[str, Any]]:
        key = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in NOT_OF_THE_TEXT}
        return f"datasets/{self.kind}", {"format": FORMAT, "version": self.version, "state": self.state(), **key}


def split_of(key: str, validation: float, test: float) -> str:
    """The split of an item (or of a component of items) by a hash of its stable name; the parts lie in 0..1."""
    draw = text_hash(key) / 2**64
    if draw < test:
        return "test"
    return "validation" if draw < test + validation else "train"


def same_item_edges(names: Sequence[str], validation: float, test: float) -> dict[str, npt.NDArray[np.int32]]:
    """Edges by split of a set whose n-th query group is answered by its n-th passage group.

    Args:
        names: for each item what its split is drawn by.
    """
    splits = np.array([split_of(name, validation, test) for name in names])
    return {split: np.repeat(np.flatnonzero(splits == split)[:, None], 2, 1).astype(np.int32) for split in SPLITS}


def components(links: Sequence[tuple[int, int]] | npt.NDArray[Any], count: int) -> npt.NDArray[np.int32]:
    """int32 [count]: the component of each of `count` items, which `links` between two of them connect."""
    import scipy.sparse
    from scipy.sparse.csgraph import connected_components

    left, right = np.asarray(links, np.int64).reshape(-1, 2).T
    graph = scipy.sparse.coo_matrix((np.ones(len(left), np.bool_), (left, right)), shape=(count, count))
    labels: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels


def find_folder(path: str, data: str | None, key: str, or_file: bool = False) -> Path:
    """`path`, of the config's `key`, as given, or under ``paths.data`` (`data`) where only that is a folder.

    Args:
        or_file: a file will do, too.

    Raises:
        InputError: no folder can have that name, or none whose name can be written down.
    """
    there = Path.exists if or_file else Path.is_dir
    try:
        given = Path(path).expanduser()
        if data and not given.is_absolute() and not there(given):
            below = Path(data).expanduser() / given
            given = below if there(below) else given
        name = given.resolve().name
        given.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{key}={path[:80]!r} is no path ({getattr(error, 'strerror', None) or error})") from error
    if not (name.isprintable() and str(given).isprintable()):
        raise InputError(f"{key}={path[:80]!r} holds control characters, or bytes that are not UTF-8; rename the folder")
    return given


def choose_languages(wanted: Sequence[str] | None, present: Sequence[str], key: str = "dataset.languages") -> list[str]:
    """The languages to use, sorted; all of `present` when none is asked for."""
    if wanted is None:
        return sorted(present)
    for language in wanted:
        if language not in present:
            raise InputError(f"{key} asks for {language!r}, which the data lacks{nearest(language, present)}")
    if not wanted:
        raise InputError(f"{key} is empty; expected at least one of: {', '.join(sorted(present))}")
    return sorted(set(wanted))
