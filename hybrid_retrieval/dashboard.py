"""``python -m hybrid_retrieval.dashboard wandb --project P``: a project's runs as a dashboard."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_retrieval.command import with_exit_code
from hybrid_retrieval.errors import InputError, first_line, nearest, outlive_readers
from hybrid_retrieval.hub import greet

if TYPE_CHECKING:
    from hybrid_retrieval.reporting.run_directory import RunDirectory

DESCRIPTION = "Make the workspace of a W&B project, and a report for each of its sweeps; panels are of what its runs log."
EPILOG = """Without --runs the runs of the project say what there is to show; with --print those below ./runs."""
ADDRESS = "https://api.wandb.ai"
PATIENCE = 5.0
"""Seconds that the service has to answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the dashboard that the command line names; the exit code is 2 where it cannot be made."""
    parser = argparse.ArgumentParser("hybrid-retrieval dashboard", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("service", choices=sorted(DASHBOARDS), help="whose dashboard")
    parser.add_argument("--project", metavar="P", required=True, help="as of logger.wandb.project")
    parser.add_argument("--entity", metavar="E", help="user or team that owns the project (your own)")
    parser.add_argument("--runs", metavar="RUN", nargs="+", type=Path, help="run or sweep directories: show what these log")
    parser.add_argument("--sweep", metavar="GROUP", help="a report on this sweep alone")
    parser.add_argument("--print", action="store_true", dest="only_print", help="write the specification as JSON; send nothing")
    chosen = vars(parser.parse_args(arguments))
    with_exit_code(lambda: DASHBOARDS[chosen.pop("service")](**chosen))
    return 0


def wandb_dashboard(runs: Sequence[Path] | None, project: str, entity: str | None, sweep: str | None, only_print: bool) -> None:
    """The workspace, and the reports of its sweeps.

    Raises:
        InputError: wandb-workspaces, the runs, the account or the service is missing.
    """
    try:
        from hybrid_retrieval.reporting import workspace
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "wandb_workspaces":
            raise
        raise InputError("dashboard wandb needs wandb-workspaces: pip install 'hybrid-retrieval[dashboard]'") from error
    api = None if only_print else _account()
    owner = entity or (str(api.default_entity) if api else "")
    keys, sweeps = _of_project(api, owner, project) if api and not runs else _of_directories(runs or [Path("runs")])
    if sweep is not None and sweep not in sweeps:
        raise InputError(f"--sweep={sweep} is the group of no run{nearest(sweep, sweeps)}")
    board = workspace.workspace(project, owner, keys)
    if not board.sections:
        raise InputError(f"--project={project}: its runs log nothing that a panel shows; expected some that were scored")
    reports = [workspace.sweep_report(project, owner, keys, name) for name in ([sweep] if sweep else sorted(sweeps))]
    if only_print:
        print(json.dumps([workspace.specification(one) for one in (board, *reports)], indent=1, ensure_ascii=False))
        return
    for one in (board, *reports):
        try:
            one.save()
        except Exception as error:  # whatever the service's client raises
            raise InputError(f"--project={project}: W&B does not take it: {first_line(error)}") from error
        print(f"{one.url}")


DASHBOARDS = {"wandb": wandb_dashboard}
"""By the service that shows them."""


def _account() -> Any:
    """W&B's client, of the user's account."""
    from hybrid_retrieval.config import wandb_account

    if not wandb_account():
        raise InputError("no account of W&B: wandb login, or WANDB_API_KEY; --print writes the specification without one")
    address = os.environ.get("WANDB_BASE_URL") or ADDRESS
    try:
        greet(address, PATIENCE)
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"{first_line(error)}; --print writes the specification without it") from error
    import wandb

    try:
        return wandb.Api()
    except Exception as error:  # whatever the client raises: a key that is none, a service that is another
        raise InputError(f"W&B at {address} does not let you in: {first_line(error)}") from error


def _of_project(api: Any, entity: str, project: str) -> tuple[set[str], set[str]]:
    """The names that a project's runs log, and the groups that they are of."""
    keys: set[str] = set()
    groups: set[str] = set()
    try:
        for run in api.runs(f"{entity}/{project}"):
            keys |= {str(key) for key in run.summary.keys()}  # noqa: SIM118 (the client's object is no mapping)
            groups |= {str(run.group)} if run.group else set()
    except Exception as error:  # as above
        raise InputError(f"--project={project}: the runs of {entity}/{project} cannot be had: {first_line(error)}") from error
    if not keys:
        raise InputError(f"--project={project}: {entity}/{project} has no run that logged anything")
    return keys, groups


def _of_directories(paths: Sequence[Path]) -> tuple[set[str], set[str]]:
    """The same of run directories."""
    from hybrid_retrieval.reporting.logged import logged_keys
    from hybrid_retrieval.reporting.run_directory import find_runs

    found = [run for path in paths for run in find_runs(path)]
    return {key for run in found for key in logged_keys(run)}, {name for run in found if (name := _sweep(run))}


def _sweep(run: RunDirectory) -> str | None:
    """The group of a run: the sweep that it was a job of."""
    folder = run.path.resolve().parent
    return folder.name if (folder / "multirun.yaml").is_file() else None


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
