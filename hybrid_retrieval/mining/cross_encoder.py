"""A cross-encoder: a sequence classifier with one label that reads a question and a passage together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybrid_retrieval.cache import folder_state
from hybrid_retrieval.errors import InputError, reading
from hybrid_retrieval.files import read_mapping
from hybrid_retrieval.hub import Hub
from hybrid_retrieval.mining.miners import Floats
from hybrid_retrieval.models.transformer import check_config

LONGEST = 512
"""Tokens of a question and a passage together, where the tokenizer says no less."""


class CrossEncoder:
    """A published sequence classifier, as sentence-transformers' `CrossEncoder` or transformers saved it."""

    def __init__(self, name: str, key: str, device: torch.device, batch_size: int = 32) -> None:
        """
        Args:
            name: a directory, or a repository on the hub.
            key: of the config that names it, for errors.
            batch_size: pairs that are read together.

        Raises:
            InputError: it cannot be had or read, has other labels than one, or its weights are not all there.
        """
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        advice = f"name a directory that holds a config.json with {key}="
        local = Path(name).expanduser()
        if local.is_dir() and not (local / "config.json").exists():
            raise InputError(f"{key}={name} holds no config.json; expected a sequence classifier's directory")
        self.directory = local if local.is_dir() else Hub().model_directory(name, None, advice)
        plain: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        with reading(f"{key}={name} cannot be loaded", whole=True):
            check_config(read_mapping(self.directory / "config.json"))
            config = AutoConfig.from_pretrained(self.directory, **plain)
        logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)  # what is missing is said below, in one line
        if config.num_labels != 1:
            raise InputError(f"{key}={name} has {config.num_labels} labels; expected a cross-encoder with one, its score")
        with reading(f"{key}={name} cannot be loaded", whole=True):
            given = {"config": config, "dtype": torch.float32, "output_loading_info": True, **plain}
            model, loaded = AutoModelForSequenceClassification.from_pretrained(self.directory, **given)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(self.directory, **plain)
        if missing := sorted(loaded["missing_keys"]):
            raise InputError(f"{key}={name}: its weights lack {len(missing)} of the classifier's, {missing[0]} among them")
        self.model = model.eval().to(device)
        self.batch_size = batch_size
        positions = int(getattr(config, "max_position_embeddings", 0) or LONGEST)
        # Of RoBERTa's kin two of the positions are no token's.
        self.longest = min(int(self.tokenizer.model_max_length), LONGEST, positions if positions > LONGEST else positions - 2)

    @property
    def state(self) -> str:
        """Changes when its files do."""
        return str(folder_state(self.directory)[1])

    def logits(self, queries: Sequence[str], passages: Sequence[str]) -> Floats:
        """float32 [pairs]: what it says of each question with the passage beside it; pairs of similar length together."""
        order = np.argsort([len(query) + len(passage) for query, passage in zip(queries, passages, strict=True)], kind="stable")
        found = np.empty(len(queries), np.float32)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            sides = [queries[row] for row in rows], [passages[row] for row in rows]
            tokens = self.tokenizer(
                *sides, padding=True, truncation="longest_first", max_length=self.longest, return_tensors="pt"
            )
            with torch.inference_mode():
                found[rows] = self.model(**tokens.to(self.model.device)).logits[:, 0].float().cpu().numpy()
        if bad := int((~np.isfinite(found)).sum()):
            raise InputError(f"{self.directory}: {bad} of {len(found)} scores are not finite: the weights are damaged")
        return found
