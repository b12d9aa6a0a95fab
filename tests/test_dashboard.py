"""The dashboard of W&B without an account: its specification against a stored one, and what it asks of the service."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from hybrid_retrieval import dashboard
from hybrid_retrieval.reporting import workspace
from hybrid_retrieval.reporting.logged import logged_keys
from hybrid_retrieval.reporting.run_directory import RunDirectory
from tests.reporting.fake_runs import write_run

STORED = Path(__file__).with_suffix(".json")
"""Written anew by ``python -m tests.test_dashboard``, to be looked at in the difference."""
TABLES = {"batches", "results/help_r", "languages/help_r", "pairs/help_r"}
ASKED = ["wandb", "--project", "P", "--entity", "E"]


def swept(folder: Path) -> Path:
    """A sweep of two samplers."""
    for number, sampler in enumerate(("hybrid", "x_x_mono")):
        run = write_run(folder / "my_sweep" / str(number), sampler=sampler)
        (run / "figures").mkdir(exist_ok=True)
        for name in ("help_r_map", "batch_composition"):
            (run / "figures" / f"{name}.png").touch()
    (folder / "my_sweep" / "multirun.yaml").touch()
    return folder / "my_sweep"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swept(tmp_path_factory.mktemp("dashboard"))


def parts(node: Any) -> Iterator[Any]:
    """A specification's node and all nodes below it."""
    yield node
    for inner in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from parts(inner)


def normalised(node: Any) -> Any:
    """Without ids, which are drawn anew each time; of a table's panel, whose query is the client's own, the table's name."""
    if isinstance(node, dict):
        if "panel2Config" in node:
            return {"table": [one for one in parts(node) if isinstance(one, str) and one in TABLES]}
        return {key: "ID" if key in ("id", "__id__") and value else normalised(value) for key, value in node.items()}
    return [normalised(one) for one in node] if isinstance(node, list) else node


def printed(sweep: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert dashboard.main([*ASKED, "--runs", str(sweep), "--print", *more]) == 0
    return json.loads(capsys.readouterr().out)


def named(specification: Any) -> set[str]:
    """The names in it that are of what runs log."""
    texts = {one.removeprefix("summary:") for one in parts(specification) if isinstance(one, str)}
    return {one for one in texts if "/" in one} - {workspace.STEP}


def test_the_specification_is_the_stored_one(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(sweep, capsys=capsys)
    assert normalised(found) == json.loads(STORED.read_text())
    titles = [one["name"] for one in found[0]["spec"]["section"]["panelBankConfig"]["sections"]]
    assert titles == [
        *("Pareto", "Validation by step", "Results by sampler", "Rank distance"),
        *("Language pairs", "Batch composition", "Streams", "Throughput"),
    ]
    assert [one["displayName"] for one in found] == ["Hybrid batches", "Sweep my_sweep"]


def test_no_panel_names_what_no_run_logs(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {key for number in range(2) for key in logged_keys(RunDirectory.open(sweep / str(number)))}
    every = printed(sweep, capsys=capsys)
    for one in every:
        assert (
            {"help_r/crosslingual/map", "pairs/help_r", "figures/help_r_map", "train/loss/crosslingual"} <= named(one) <= keys
        )
    for gone in sorted(named(every)):
        fewer = keys - {gone}
        for one in (workspace.workspace("P", "E", fewer), workspace.sweep_report("P", "E", fewer, "my_sweep")):
            assert named(workspace.specification(one)) <= fewer


def test_a_report_is_of_one_sweep_by_sampler(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, report = printed(sweep, "--sweep", "my_sweep", capsys=capsys)
    runsets = [one for block in parts(report) if isinstance(block, dict) for one in block.get("runSets", [])]
    assert len(runsets) == 8
    for one in runsets:
        (asked,) = one["filters"]["filters"]
        assert (asked["key"], asked["op"], asked["value"]) == ({"section": "run", "name": "group"}, "=", "my_sweep")
        assert one["grouping"] == [{"section": "config", "name": "choices.value.sampler"}]
        assert "project" not in one  # the report's own; another one would have to be looked up
    for block in report["spec"]["blocks"]:
        if block["type"] != "panel-grid":
            continue
        at = [one["layout"] for one in block["metadata"]["panelBankSectionConfig"]["panels"]]
        assert at
        taken = [
            (x, y) for box in at for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])
        ]
        assert len(taken) == len(set(taken))
        assert all(x < workspace.GRID for x, _ in taken)


class Service:
    """W&B as its client sees it."""

    def __init__(self) -> None:
        self.default_entity = "me"
        self.saved: list[dict[str, Any]] = []
        self.stored: list[Any] = []
        self._service_api = SimpleNamespace(execute_graphql=self.execute, app_url="https://wandb.example.org")

    def runs(self, path: str) -> list[Any]:
        self.asked = path
        return self.stored

    def projects(self, entity: str) -> list[Any]:
        return [SimpleNamespace(name="P")]

    def execute(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.saved.append(variables)
        project = {"name": variables["projectName"], "entityName": variables["entityName"]}
        view = {"id": "7", "name": variables["name"], "type": variables["type"], "displayName": variables["displayName"]}
        view |= {"description": "", "project": project, "spec": variables["spec"]}
        return {"upsertView": {"view": view, "inserted": True}}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    found = Service()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(dashboard, "greet", lambda *_: None)
    monkeypatch.setattr(wandb, "Api", lambda: found)
    return found


def test_what_the_projects_runs_log_is_what_is_shown(service: Service, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = logged_keys(RunDirectory.open(sweep / "0"))
    service.stored = [SimpleNamespace(summary=dict.fromkeys(keys), group=group) for group in ("b", "a", None)]
    assert dashboard.main(["wandb", "--project", "P"]) == 0
    assert service.asked == "me/P"
    assert [one["displayName"] for one in service.saved] == ["Hybrid batches", "Sweep a", "Sweep b"]
    assert {one["entityName"] for one in service.saved} == {"me"}
    specification = json.loads(service.saved[0]["spec"])
    assert named(specification) <= keys
    assert len(specification["section"]["panelBankConfig"]["sections"]) == 8
    assert [line.startswith("https://wandb.example.org/me/P") for line in capsys.readouterr().out.splitlines()] == [True] * 3
    service.saved.clear()
    assert dashboard.main([*ASKED, "--sweep", "b"]) == 0
    assert [(one["displayName"], one["entityName"]) for one in service.saved] == [("Hybrid batches", "E"), ("Sweep b", "E")]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        dashboard.main(arguments)
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


def breaking(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_what_the_service_does_not_do_is_one_line(
    service: Service, sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "E/P has no run that logged anything" in refused(capsys, *ASKED)
    service.stored = [SimpleNamespace(summary={"epoch": 1}, group=None)]
    assert "nothing that a panel shows" in refused(capsys, *ASKED)
    assert "--sweep=other is the group of no run" in refused(capsys, *ASKED, "--runs", str(sweep), "--sweep", "other")
    service.runs = breaking(ValueError("Could not find project P"))  # type: ignore[method-assign]
    assert "Could not find project P" in refused(capsys, *ASKED)
    service._service_api.execute_graphql = breaking(RuntimeError("permission denied\nand more"))
    assert refused(capsys, *ASKED, "--runs", str(sweep)).endswith("W&B does not take it: permission denied\n")
    monkeypatch.setattr(wandb, "Api", breaking(wandb.errors.UsageError("invalid key")))
    assert "does not let you in: invalid key" in refused(capsys, *ASKED)


def test_without_account_service_or_package_one_line_says_what_to_do(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    assert "no account of W&B: wandb login, or WANDB_API_KEY; --print" in refused(capsys, *ASKED)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in refused(capsys, *ASKED)
    assert "runs is not a folder" in refused(capsys, *ASKED, "--print")
    assert "no_run is not a folder" in refused(capsys, *ASKED, "--print", "--runs", "no_run")
    with monkeypatch.context() as without:
        for name in [one for one in sys.modules if one.startswith("wandb_workspaces")]:
            without.delitem(sys.modules, name)
        without.delitem(sys.modules, "hybrid_retrieval.reporting.workspace")
        without.delattr("hybrid_retrieval.reporting.workspace")
        without.setattr(sys, "path_importer_cache", {})
        without.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
        assert "pip install 'hybrid-retrieval[dashboard]'" in refused(capsys, *ASKED, "--print", "--runs", str(sweep))


class Hidden:
    """An import system without wandb-workspaces."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "wandb_workspaces":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_service_is_one_that_has_a_dashboard(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        dashboard.main(["mlflow", "--project", "P"])
    assert ended.value.code == 2
    assert "wandb" in capsys.readouterr().err


if __name__ == "__main__":
    import contextlib
    import io
    import tempfile

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
        dashboard.main([*ASKED, "--runs", str(swept(Path(folder))), "--print"])
    STORED.write_text(json.dumps(normalised(json.loads(out.getvalue())), indent=1) + "\n")
