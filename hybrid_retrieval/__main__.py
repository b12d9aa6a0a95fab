"""The front door: ``hybrid-retrieval COMMAND [...]`` is ``python -m hybrid_retrieval.COMMAND [...]``."""

from __future__ import annotations

import runpy
import sys

from hybrid_retrieval.command import stop
from hybrid_retrieval.errors import nearest

COMMANDS = {
    "run": "train, evaluate, report",
    "evaluate": "score a run, a published encoder, an endpoint or retrievers",
    "search": "questions in, the best passages out, by a run or a published encoder",
    "compare": "whether differences of finished runs are more than chance",
    "report": "tables, figures and pages of finished runs, anew",
    "dashboard": "the runs of a project as a dashboard of W&B, and a report for each sweep",
    "export": "an encoder as a directory for sentence-transformers, and as ONNX",
    "prepare": "fetch and build a data set before it is needed; prepare mine, prepare score: hard negatives for one",
    "challenge": "a benchmark with minimally wrong copies of its passages among them",
    "attack": "a benchmark's queries changed by an encoder's own scores, and what every encoder loses by it",
    "plan": "the cost of a job or sweep before it runs",
    "push": "a model and its card to a hub",
    "verify": "replay score cards",
}
"""Modules of the package that are commands, and what each is for."""


def main() -> None:
    """Run the command that the first argument names, with the other arguments."""
    name, *others = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: hybrid-retrieval COMMAND [...]\n")
        print("\n".join(f"  {command:{width}}  {purpose}" for command, purpose in COMMANDS.items()))
        print("\nhybrid-retrieval COMMAND --help explains one.")
    elif name not in COMMANDS:
        stop(f"{name!r} is no command{nearest(name, COMMANDS)}")
    else:
        sys.argv = [f"hybrid-retrieval {name}", *others]
        runpy.run_module(f"hybrid_retrieval.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
