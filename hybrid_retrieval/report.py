"""``python -m hybrid_retrieval.report PATH [PATH ...]``: tables, figures and pages of finished runs, anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hybrid_retrieval.errors import InputError, outlive_readers

DESCRIPTION = "Show one run (its table, figures/ and report.html), or compare several."
EPILOG = "A single PATH with several runs below it is a sweep: its comparison is written into it."


def main(arguments: Sequence[str] | None = None) -> int:
    """Report on the runs that the command line names; the exit code is 2 where they cannot be shown."""
    parser = argparse.ArgumentParser("hybrid-retrieval report", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="run directory or sweep directory")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where a comparison goes (the sweep directory, or ./comparison)"
    )
    parser.add_argument(
        "--formats",
        metavar="LIST",
        default="png",
        help="of pictures png,svg,pdf, and of tables tex,md; PNG is always written (default: png)",
    )
    parser.add_argument(
        "--order", metavar="BY", default="name", help="languages in matrices by name, family, script or value (default: name)"
    )
    chosen = parser.parse_args(arguments)
    try:
        report(chosen.paths, chosen.out, chosen.formats, chosen.order)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def report(paths: Sequence[Path], out: Path | None = None, formats: str = "png", order: str = "name") -> None:
    """Report on one run, or compare the runs at or below several paths."""
    from hybrid_retrieval.reporting.comparison import compare
    from hybrid_retrieval.reporting.paper import Paper
    from hybrid_retrieval.reporting.run_directory import find_runs
    from hybrid_retrieval.reporting.run_report import report_run

    paper = Paper.asked(formats, order)
    runs = {run.path.resolve(): run for path in paths for run in find_runs(path)}
    if len(runs) > 1:
        compare(list(runs.values()), out or (paths[0] if len(paths) == 1 else Path("comparison")), paper)
    elif out is not None:
        raise InputError(f"--out={out} is for comparisons; the report of one run is written into its own directory")
    else:
        report_run(next(iter(runs.values())).path, paper)


if __name__ == "__main__":
    outlive_readers()
    sys.exit(main())
