"""Pages of the site that stand elsewhere, or in comments: README, experiments, ARCHITECTURE, and the reference of conf/.

Links between pages are those of the repository, so that they lead to the same place on a code host and on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hybrid_retrieval.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
REFERENCE = "reference/configuration"
JOBS = ("config", "evaluate", "plan", "mine", "score")
"""Configs of whole commands."""
WHOLE = ("experiment", "hydra")
"""Groups whose files are recipes, which override other groups: they are shown as they stand."""
LINK = re.compile(r"(?<=\]\()([\w./-]+)(?=[#)])")
SHELL = re.compile(r"(^```sh[^\n]*\n)(.*?)(^```$)", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^((?:.*\\\n)*.*?) {2,}(# .*)$", re.MULTILINE)
KEY = re.compile(r"( *)([\w.@/+-]+):(?: +(?!#)(.*?))?(?: +# (.*))?")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that no file below docs/ holds."""
    from mkdocs.structure.files import File

    for uri in elsewhere():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / uri)))
    for uri, text in configuration().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages, and have comments above their commands."""
    here = page.file.src_uri
    if here not in elsewhere() and not (ROOT / "docs" / here).exists():  # made here, with links of the site
        return markdown
    folder = posixpath.dirname(here if here in elsewhere() else f"docs/{here}")

    def linked(link: re.Match[str]) -> str:
        target = site_path(posixpath.normpath(posixpath.join(folder, link[1])))
        return posixpath.relpath(target, posixpath.dirname(here) or ".")

    lines = SHELL.sub(lambda block: block[1] + COMMAND.sub(r"\2\n\1", block[2]) + block[3], markdown)
    return LINK.sub(linked, lines)


def site_path(path: str) -> str:
    """Where a file or folder of the repository is on the site."""
    if found := re.match(r"conf(?:/(\w+))?", path):
        return f"{REFERENCE}/{found[1] or 'README'}.md"
    return path.removeprefix("docs/")


def elsewhere() -> list[str]:
    """The pages outside of docs/, and the pictures that they show."""
    studies = [
        path.relative_to(ROOT).as_posix() for kind in ("md", "png") for path in (ROOT / "experiments").rglob(f"*.{kind}")
    ]
    return ["README.md", "ARCHITECTURE.md", *sorted(studies)]


def configuration() -> dict[str, str]:
    """The reference of conf/: a page a group, and one of commands, with the choices of every group."""
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    pages = {f"{REFERENCE}/{group}.md": "\n".join(group_page(group)) for group in groups}
    return {f"{REFERENCE}/README.md": "\n".join(overview(groups)), **pages}


def overview(groups: list[str]) -> Iterator[str]:
    """Commands, the keys of each that has a config, and all choices."""
    yield from (
        "# Commands and choices",
        "",
        "`hybrid-retrieval NAME ...` is `python -m hybrid_retrieval.NAME ...`; `--help` explains each.",
        "",
    )
    yield from ("| command | what for |", "|---|---|", *(f"| `{name}` | {purpose} |" for name, purpose in COMMANDS.items()), "")
    yield from (
        "## Choices",
        "",
        "`GROUP=NAME` chooses, `GROUP.KEY=VALUE` changes a value; `--cfg job` shows the whole config and runs nothing.",
        "",
    )
    yield from ("| group | choices |", "|---|---|")
    for group in groups:
        names = [f"[`{name}`]({group}.md#{anchor(name)})" for name in choices(group) if not name.startswith("base/")]
        yield f"| [`{group}`]({group}.md) | {', '.join(names)} |"
    for name in JOBS:
        command = {"config": "run", "mine": "prepare mine", "score": "prepare score"}.get(name, name)
        yield from ("", f"## `{command}` {{#{command.replace(' ', '-')}}}", "", *explained(CONF / f"{name}.yaml"))


def choices(group: str) -> dict[str, Path]:
    """The files of a group by the names that choose them, bases last."""
    found = {path.relative_to(CONF / group).with_suffix("").as_posix(): path for path in (CONF / group).rglob("*.yaml")}
    return dict(sorted(found.items(), key=lambda item: (item[0].startswith("base/"), item[0])))


def group_page(group: str) -> Iterator[str]:
    """A group: each choice with its description, class and keys."""
    yield from (f"# `{group}`", "", f"From the comments of `conf/{group}/`.")
    for name, path in choices(group).items():
        yield from ("", f"## `{name}` {{#{anchor(name)}}}", "", *explained(path, group))


def anchor(name: str) -> str:
    """The anchor of a choice on its group's page."""
    return name.replace("/", "-").replace(".", "-").lower()


def explained(path: Path, group: str | None = None) -> Iterator[str]:
    """What the comments of a config file say: its description, what it builds on, its class, and its keys in a table."""
    lines = path.read_text(encoding="utf-8").splitlines()
    said = [line[2:] for line in lines if re.match("# (?!@package)", line)]
    yield from (cell(" ".join(said)), "")
    if group in WHOLE:
        yield from ("```yaml", *(line for line in lines if not line.startswith("# ")), "```")
        return
    node: Mapping[str, Any] = yaml.safe_load("\n".join(lines)) or {}
    bases = [
        str(one).partition("@")[0] for one in node.get("defaults", []) if group and str(one).partition("@")[0] in choices(group)
    ]
    if bases:
        yield from ("With the keys of " + ", ".join(f"[`{base}`](#{anchor(base)})" for base in bases) + ".", "")
    if "_target_" in node:
        yield from (f"Class: `{node['_target_']}`", "")
    rows = {key: (value, comment) for key, value, comment in keys(lines)}
    if rows:
        yield from (
            "| key | value | |",
            "|---|---|---|",
            *(f"| `{key}` | {code(value)} | {cell(comment)} |" for key, (value, comment) in rows.items()),
        )


def keys(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """(key, value, comment) of every key of a file; a choice of a group among its defaults is one."""
    path: list[tuple[int, str]] = []
    for number, line in enumerate(lines):
        if (found := re.fullmatch(r"  - (?:optional )?(\w+): (.*?) +# (.*)", line)) is not None:
            yield found[1], found[2], found[3]
            continue
        if (found := KEY.fullmatch(line)) is None:
            continue
        indent, key, value, comment = len(found[1]), found[2], found[3] or "", found[4] or ""
        path = [part for part in path if part[0] < indent] + [(indent, key)]
        deeper = re.match(rf" {{{indent + 1},}}\S", lines[number + 1]) if number + 1 < len(lines) else None
        if path[0][1] in ("hydra", "defaults", "_target_") or (deeper and not comment and not value):
            continue
        yield ".".join(name for _, name in path), value, comment


def code(value: str) -> str:
    """A value in a table's cell."""
    return f"`{value}`".replace("|", "\\|") if value else ""


def cell(text: str) -> str:
    """A comment in a table's cell."""
    return re.sub(r"[|<*_\[\]{}]", lambda mark: f"\\{mark[0]}" if mark[0] != "<" else "&lt;", text)
