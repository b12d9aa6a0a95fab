"""Loggers of Lightning's as a run uses them: how they start and end, and what each can take beside figures by step.

A logger that has nothing for a kind of thing, as a CSV file has no pictures, is not told.
"""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from hybrid_retrieval.errors import InputError
from hybrid_retrieval.hub import greet
from hybrid_retrieval.reporting.logged import MANIFEST, Grid

log = logging.getLogger(__name__)

LOG_MODEL = "log_model"
"""Key of a logger's config that is this package's: Lightning refuses its own offline, and knows of no model but checkpoints."""
REACHED_SECONDS = 5.0
"""Time that the service of a logger has to answer."""


def settled(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The config node that a logger is made of: without what is not Lightning's, and able to start on this machine."""
    asks_for_model(name, node)
    node = {key: value for key, value in reached(name, node).items() if key != LOG_MODEL}
    if str(node.get("tracking_uri")).startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else newer MLflow refuses to write files
    return node


def asks_for_model(name: str, node: Mapping[str, Any]) -> bool:
    """Whether a logger is to keep the run's files.

    Raises:
        InputError: `LOG_MODEL` is no truth value.
    """
    asked = node.get(LOG_MODEL, False)
    if not isinstance(asked, bool):
        raise InputError(f"logger.{name}.{LOG_MODEL}={asked!r}; expected true or false")
    return asked


def reached(name: str, node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config node of a logger; of W&B's an offline one where the service, which it would wait for, cannot be reached."""
    mode = os.environ.get("WANDB_MODE", "online")
    if not str(node.get("_target_")).endswith("WandbLogger") or mode not in ("online", "offline"):
        return node
    sync = f"wandb sync {node.get('save_dir')}/wandb/offline-run-*-{node.get('id')}"
    if node.get("offline") or mode == "offline":
        log.info("logger=%s: the run is logged offline: %s sends it", name, sync)
        return node
    try:
        greet(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai", REACHED_SECONDS)
    except (ConnectionError, HTTPException, ValueError) as error:
        if not isinstance(getattr(error.__cause__, "reason", None), ssl.SSLError):  # it answers, and W&B may trust it
            log.warning("logger=%s: %s; the run is logged offline: %s sends it", name, error, sync)
            return {**node, "offline": True}
    return node


@contextmanager
def opened(loggers: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[None]:
    """Tell the loggers of the job, and close them with the exit code that the process ends with."""
    for name, logger in loggers.items():
        try:
            logger.log_hyperparams(dict(config))
        except Exception as error:  # whatever the logger's service raises
            raise InputError(f"logger={name} cannot start: {textwrap.shorten(str(error), 300)}") from error
    code = 1
    try:
        yield
        code = 0
    except InputError:
        code = 2
        raise
    finally:
        for logger in loggers.values():
            logger.finalize("success" if code == 0 else "failed")
            if hasattr(_experiment(logger), "finish"):  # Weights & Biases: else the next job goes into this run
                logger.experiment.finish(exit_code=code)


def _experiment(logger: Any) -> Any:
    """The service's own object."""
    return getattr(logger, "experiment", None)


def send_table(logger: Any, name: str, grid: Grid) -> None:
    """A table."""
    experiment = _experiment(logger)
    if hasattr(logger, "log_table"):
        logger.log_table(name, grid.columns, grid.rows)
    elif hasattr(experiment, "add_text"):
        experiment.add_text(name, grid.markdown())
    elif hasattr(experiment, "log_text"):
        experiment.log_text(logger.run_id, grid.markdown(), f"{name}.md")


def send_picture(logger: Any, name: str, picture: Path) -> None:
    """A picture, of a PNG file."""
    experiment = _experiment(logger)
    if hasattr(logger, "log_image"):
        logger.log_image(name, [str(picture)])
    elif hasattr(experiment, "add_image"):
        import numpy as np
        from PIL import Image  # which TensorBoard needs for pictures

        experiment.add_image(name, np.asarray(Image.open(picture).convert("RGBA")), dataformats="HWC")
    elif hasattr(experiment, "log_artifact"):
        experiment.log_artifact(logger.run_id, str(picture), str(Path(name).parent))


def send_alert(logger: Any, title: str, text: str) -> None:
    """A message to whoever watches the run."""
    experiment = _experiment(logger)
    if hasattr(experiment, "alert"):
        experiment.alert(title, text, level="ERROR")


def send_files(logger: Any, kind: str, paths: Sequence[Path]) -> None:
    """Files, or a directory of them, that the run made; of W&B's the artifact ``KIND-ID``."""
    experiment = _experiment(logger)
    if hasattr(experiment, "use_artifact"):
        import wandb

        artifact = wandb.Artifact(f"{kind}-{experiment.id}", kind)
        for path in paths:
            (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path))
        experiment.log_artifact(artifact)
    elif hasattr(experiment, "log_artifact"):
        for path in paths:
            (experiment.log_artifacts if path.is_dir() else experiment.log_artifact)(logger.run_id, str(path), kind)


def send_input(logger: Any, kind: str, name: str, facts: Mapping[str, Any]) -> None:
    """What the run is made from; the same facts are the same version of W&B's artifact, whichever run says so."""
    experiment = _experiment(logger)
    if not hasattr(experiment, "use_artifact"):
        return
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII), kind, metadata=dict(facts))
    with artifact.new_file("origin.json", encoding="utf-8") as file:
        file.write(json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False))
    if experiment.offline:  # where the public method refuses, though the record of an artifact of one's own can wait
        experiment._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        experiment.use_artifact(artifact)


def inputs(facts: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, name and facts of what a run is made from.

    Args:
        facts: as in ``environment.json``: ``data``, a list, and ``benchmarks`` by name.
        model: its config, which names published weights where the encoder starts from some.
    """
    for one in facts["data"]:
        yield "dataset", str(one["name"]), _anywhere(one)
    for name, one in facts["benchmarks"].items():
        yield "benchmark", name, _anywhere(one)
    if start := model.get("name") or model.get("path"):
        known = {key: model[key] for key in ("name", "path", "revision") if model.get(key)}
        yield "start", Path(str(start)).name, known


def _anywhere(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Without the folder that the same data have on this machine."""
    return {key: value for key, value in provenance.items() if key != "path"}


def send_run(
    loggers: Sequence[Any], run_dir: Path, model: Path | None, made_from: Sequence[tuple[str, str, dict[str, Any]]]
) -> None:
    """What a finished run was made from, and its files: checkpoints, the manifest, its exported `model`."""
    made = {
        "checkpoint": sorted((run_dir / "checkpoints").glob("*.ckpt")),
        "manifest": [run_dir / MANIFEST],
        "model": [model] if model else [],
    }
    for logger in loggers:
        for kind, name, facts in made_from:
            send_input(logger, kind, name, facts)
        for kind, paths in made.items():
            if paths:
                send_files(logger, kind, paths)
