"""From text to token ids, by a tokenizer that is trained on the spot or comes from a published model directory."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Encoding, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.models.romanization import romanizer
from hybrid_retrieval.models.word_memo import WordMemo, words_suffice
from hybrid_retrieval.ragged import Ragged

Ints = npt.NDArray[np.int64]

BEGIN, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
PADS = (PAD, "[PAD]")
"""What a token that fills a padded batch is called."""
MARGIN = 2
"""Tokens that are kept free in a piece of a text."""
LONGEST_UNIT = 4
"""Tokens of the longest stretch of text that pieces never split."""
BYTES = frozenset(f"<0x{value:02X}>" for value in range(256))


@dataclass(frozen=True)
class Tokenization:
    """A tokenizer with one side's prefix and length limit.

    Attributes:
        prefix: put before every text ("Query: ").
        max_length: tokens kept of a text, special tokens included.
    """

    tokenizer: Tokenizer
    prefix: str
    max_length: int

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """All that the ids of a text depend on, as a cache key."""
        model = hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()
        return {"tokenizer": model, "prefix": self.prefix, "max_length": self.max_length}

    @cached_property
    def byte_ids(self) -> npt.NDArray[np.int64]:
        """Ids of the single-byte tokens that stand in for unknown characters."""
        found = (self.tokenizer.token_to_id(token) for token in BYTES)
        return np.array(sorted(id_ for id_ in found if id_ is not None), dtype=np.int64)

    @cached_property
    def unknown_id(self) -> int:
        """Id of the unknown token, or -1."""
        return next((id_ for name in (UNKNOWN, "[UNK]") if (id_ := self.tokenizer.token_to_id(name)) is not None), -1)

    @cached_property
    def _cutting(self) -> Tokenizer:
        """A copy of the tokenizer that cuts, and pads nothing."""
        special = self.tokenizer.num_special_tokens_to_add(False)
        if self.max_length <= special:
            raise InputError(f"model.max_*_length={self.max_length} leaves no room for text beside {special} special tokens")
        tokenizer = self._plain()
        tokenizer.enable_truncation(self.max_length)
        return tokenizer

    def _plain(self) -> Tokenizer:
        """A copy of the tokenizer that neither cuts nor pads."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        return special_tokens(self._plain())

    def chunks(self, texts: Iterable[Sequence[str]]) -> Iterator[tuple[Ragged, npt.NDArray[np.bool_]]]:
        """Token ids of each chunk of texts, and for each text whether it was cut to `max_length`."""
        for chunk in texts:
            prefixed = [self.prefix + text for text in chunk]
            yield _encode(self._cutting, prefixed) if self._memo is None else self._by_words(self._memo, prefixed)

    def once(self, texts: Sequence[str]) -> tuple[Ragged, npt.NDArray[np.bool_]]:
        """A chunk of `chunks`, of texts whose words hardly come again: none is remembered."""
        return _encode(self._cutting, [self.prefix + text for text in texts])

    def pieces(self, text: str, overlap: int) -> list[str]:
        """The text in pieces that `chunks` does not cut, split at words if there are any; neighbours share `overlap` tokens."""
        before, after = self._special
        plain = self._plain()
        bare = len(plain.encode(self.prefix, add_special_tokens=False).ids) if self.prefix else 0
        # A piece that starts within a word may become a token longer at either end.
        room = self.max_length - len(before) - len(after) - bare - MARGIN
        if room < 2 * overlap + 4:
            raise InputError(f"evaluation.overlap={overlap} leaves no room in model.max_passage_length={self.max_length}")
        found = plain.encode(text, add_special_tokens=False)
        if len(found) <= room + MARGIN:
            return [text]
        starts, tokens, starts_word = _units(found, text)
        ends, words = np.cumsum(tokens), np.flatnonzero(starts_word)
        pieces: list[str] = []
        first = 0
        while True:
            done = int(ends[first - 1]) if first else 0
            most = int(np.searchsorted(ends, done + room, "right"))
            if most >= len(starts):
                return [*pieces, text[starts[first] :]]
            half = int(np.searchsorted(ends, done + overlap + room // 2, "right"))
            at = words[(words > half) & (words <= most)]
            last = int(at[-1]) if len(at) else max(most, first + 1)
            pieces.append(text[starts[first] : starts[last]])
            back = int(np.searchsorted(ends, ends[last - 1] - overlap, "left")) + 1
            first = max(back, first + 1) if overlap else last

    @cached_property
    def _memo(self) -> WordMemo | None:
        """The words that were met, kept from one call to the next; None where words do not suffice."""
        plain = self._plain()
        return WordMemo(plain) if words_suffice(plain) else None

    def _by_words(self, memo: WordMemo, texts: Sequence[str]) -> tuple[Ragged, npt.NDArray[np.bool_]]:
        """The tokenizer's ids of texts, from words that are known and from texts that need it whole, and which it would cut."""
        inner, lengths, whole = memo.encode(texts)
        rest, rest_cut = _encode(self._cutting, [texts[row] for row in np.flatnonzero(whole).tolist()])
        before, after = self._special
        room = self.max_length - len(before) - len(after)
        cut = lengths > room
        if cut.any():
            inner = inner[Ragged.of(inner, lengths).positions() < room]
        cut[whole] = rest_cut
        total = np.minimum(lengths, room) + len(before) + len(after)
        total[whole] = rest.lengths
        stops = np.cumsum(total)
        flat = np.empty(int(total.sum()), np.int64)
        open_ = np.repeat(~whole, total)
        flat[~open_] = rest.values
        for first, special in (((stops - total)[~whole], before), (stops[~whole] - len(after), after)):
            places = first[:, None] + np.arange(len(special))
            flat[places], open_[places] = special, False
        flat[open_] = inner
        return Ragged.of(flat, total), cut


def _units(found: Encoding, text: str) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Stretches of a text that are not split: first character, number of tokens, whether a word starts there; each [units].

    Tokens that share characters are one unit; one of many characters, all of them bytes, is a unit for each of these.
    """
    start, stop = np.array(found.offsets).T
    at = np.flatnonzero(start >= np.maximum.accumulate(np.concatenate([[0], stop[:-1]])))
    word = np.array([-1, *(-1 if one is None else one for one in found.word_ids)])
    units: list[tuple[int, int, bool]] = []
    columns = start[at], [*start[at[1:]], len(text)], np.diff([*at, len(start)]), word[at + 1] != word[at]
    for first, until, tokens, starts_word in zip(*columns, strict=True):
        if tokens <= LONGEST_UNIT or until <= first:
            units.append((first, tokens, starts_word))
        else:
            sizes = [len(character.encode("utf-8", "surrogatepass")) + 1 for character in text[first:until]]
            units += [(first + place, size, starts_word and not place) for place, size in enumerate(sizes)]
    firsts, counts, words = (np.array(column) for column in zip(*units, strict=True))
    return firsts, counts, words


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Ragged, npt.NDArray[np.bool_]]:
    """The tokenizer's int64 ids of texts, and which of them it cut."""
    encoded = tokenizer.encode_batch_fast(texts)
    ids = Ragged.from_lists([one.ids for one in encoded])
    return ids, np.fromiter((bool(one.overflowing) for one in encoded), np.bool_, len(encoded))


def train_unigram(texts: Iterable[str], vocabulary: int, romanize: bool = False) -> Tokenizer:
    """A unigram tokenizer with byte fallback, in XLM-R's layout (Kudo 2018, arXiv 1804.10959; by SentencePiece).

    Training is deterministic. Characters that the training text lacks become byte tokens, never the unknown token.

    Args:
        texts: the training text, one passage or question each.
        vocabulary: number of tokens; fewer come out where the text cannot support that many.
        romanize: spell all alphabets in Latin letters.
    """
    import sentencepiece

    spelling = [romanizer()] if romanize else []
    spaces = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    normalizer = normalizers.Sequence([normalizers.NFKC(), *spelling, normalizers.Lowercase(), *spaces])
    model = io.BytesIO()
    sentencepiece.set_min_log_level(2)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(normalizer.normalize_str(text) for text in texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocabulary,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=0.9998,
            normalization_rule_name="identity",
            max_sentence_length=1 << 20,
            bos_id=0,
            bos_piece=BEGIN,
            pad_id=1,
            pad_piece=PAD,
            eos_id=2,
            eos_piece=END,
            unk_id=3,
            unk_piece=UNKNOWN,
            num_threads=2,
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"model.vocabulary={vocabulary}: {_why_not(str(error), vocabulary)}") from error
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(trained.id_to_piece(index), trained.get_score(index)) for index in range(trained.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram([*pieces, (MASK, 0.0)], unk_id=3, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 0), (END, 2)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (BEGIN, PAD, END, UNKNOWN, MASK)])
    return tokenizer


def _why_not(said: str, vocabulary: int) -> str:
    """SentencePiece's complaint as a reader of the config would say it; its own last words where it is another one."""
    if found := re.search(rf"\b{vocabulary} vs (\d+)", said):
        return f"this text needs {found[1]} or more, for its characters, all bytes and the special tokens"
    if "sentences_.empty()" in said:
        return "there is no text to train a tokenizer on"
    return f"no tokenizer can be trained on this text ({' '.join(said.split())[-160:]})"


def special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the special tokens before and after a text; the tokenizer must not pad."""
    bare, full = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    start = next((place for place in range(len(full)) if full[place : place + len(bare)] == bare), None)
    if start is None:
        raise InputError(f"the tokenizer makes {full} of a text of {bare}; expected special tokens before and after it only")
    return full[:start], full[start + len(bare) :]


def check_vocabulary(tokenizer: Tokenizer, rows: int) -> None:
    """Refuse a tokenizer that gives ids for which a table of so many rows has none."""
    top = max([*tokenizer.get_vocab().values(), *tokenizer.encode("a").ids], default=0)
    if top >= rows:
        raise InputError(
            f"the tokenizer has {tokenizer.get_vocab_size()} tokens with ids up to {top}, and the weights have only {rows} rows"
        )


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a published model directory: ``tokenizer.json``, or what transformers makes of older files.

    Raises:
        InputError: there is none, where transformers would make one up; or it cannot be read.
    """
    file = directory / "tokenizer.json"
    if file.exists():
        with reading(f"model.path: {file} is not a tokenizer"):
            return Tokenizer.from_file(str(file))
    from transformers import AutoTokenizer

    with reading(f"model.path={directory} holds no tokenizer.json and no tokenizer that can be converted"):
        slow = AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False, local_files_only=True)
        backend: Tokenizer = slow.backend_tokenizer
    needed = {name for name in type(slow).vocab_files_names.values() if name != file.name}
    missing = sorted(name for name in needed if not (directory / name).is_file())
    if missing or not needed:
        raise InputError(f"model.path={directory} holds no tokenizer; expected {' or '.join([file.name, *missing])}")
    return backend


def pad_id(tokenizer: Tokenizer) -> int:
    """The id that fills a padded batch."""
    for token in PADS:
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    return 0
