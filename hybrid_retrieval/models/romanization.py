"""Alphabets in Latin letters: a name is spelt alike in all of them, so that its tokens are shared between scripts.

Romanisation as in uroman (Hermjakob et al. 2018), by the tables of anyascii, character by character: Cyrillic, Greek, Arabic,
Hebrew, the scripts of India, Thai, kana, Hangul and others. Latin letters keep their marks, and Han characters stay.
"""

from __future__ import annotations

import tempfile
import unicodedata
from functools import cache
from pathlib import Path

from tokenizers import normalizers

LAST = 0x20000
"""Han characters alone lie above."""
KEPT = ("LATIN", "CJK", "COMBINING", "IDEOGRAPHIC")
"""First words of the names of characters that stay."""


@cache
def romanizer() -> normalizers.Normalizer:
    """A tokenizer's step that goes after NFKC and before lower-casing: one table, compiled by SentencePiece."""
    import sentencepiece
    from anyascii import anyascii
    from sentencepiece import sentencepiece_model_pb2

    sentencepiece.set_min_log_level(2)
    rules = []
    for number in range(0x80, LAST):
        character = chr(number)
        if unicodedata.category(character)[0] not in "LMN" or unicodedata.name(character, "CJK").startswith(KEPT):
            continue
        latin = anyascii(character)
        if latin != character and unicodedata.is_normalized("NFKC", character):
            rules.append(f"{number:04X}\t{' '.join(f'{ord(letter):04X}' for letter in latin)}\n")
    with tempfile.TemporaryDirectory() as work:
        table = Path(work) / "rules.tsv"
        table.write_text("".join(rules))
        compiled = sentencepiece.SentencePieceNormalizer(rule_tsv=str(table)).serialized_model_proto()
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(compiled)
    return normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
