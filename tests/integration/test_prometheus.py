"""The dashboard and the alert rules of docs/monitoring, against a real Prometheus that scrapes a real farm."""

import json
import math
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.views.fitness_history import FitnessHistory
from pipeline.views.metrics import Disk, LedgerCounts, Surroundings, farm_metrics
from pipeline.views.progress import measure_progress
from tests.harness.core import CoreHarness
from tests.harness.farm_project import FarmProject, games
from tests.harness.samba import free_port
from tests.harness.served_project import answer_of, served
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually

FILES = ROOT / "docs" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((FILES / "grafana-dashboard.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
#: As Grafana does with its variables.
VARIABLES = {"$__rate_interval": "30s", "$instance": ".+"}
pytestmark = [pytest.mark.source, pytest.mark.timeout(60)]


def names_of_metrics() -> set[str]:
    """The names of all metrics."""
    core = CoreHarness("w0", genomes=1)
    core.play_all()
    fitness, counts = FitnessHistory("maximize"), LedgerCounts()
    for fact, at in core.facts:
        fitness.note(1, fact)
        counts.last_result_at = at
    around = Surroundings(version="1", at=core.now, disks={"state": Disk(1, 1)}, ledger_bytes=1)
    now = measure_progress(core.farm, core.observed, core.now, fitness)
    return {metric.name for metric in farm_metrics(counts, now, around)}


def named_in(text: str) -> set[str]:
    """The metrics that a text names; those of a histogram by the histogram's name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bpipeline_\w+", text)}


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that scrapes a target twice a second, with the configuration of the documents; its address.

    It sends the token in the file `token` of its folder: the comment that says how is none any more.
    """
    config = (FILES / "prometheus.yml").read_text(encoding="utf-8")
    changes = {"127.0.0.1:8765": target, "15s": "500ms", "# authorization": "authorization", "#   cred": "  cred"}
    for before, after in changes.items():
        assert config.count(before) == 1, before
        config = config.replace(before, after)
    (folder / "prometheus.yml").write_text(config)
    (folder / "alert-rules.yml").write_bytes((FILES / "alert-rules.yml").read_bytes())
    address = f"127.0.0.1:{free_port()}"
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        assert eventually(lambda: answer_of(f"http://{address}/-/ready")[0] == 200, 20), (folder / "log").read_text()
        yield f"http://{address}"
    finally:
        server.kill()
        server.wait()


def answered(address: str, query: str) -> list[float]:
    """The values that a query gives now. Fails if Prometheus refuses the query."""
    code, _, text = answer_of(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    assert code == 200, f"{query}: {text}"
    return [float(series["value"][1]) for series in json.loads(text)["data"]["result"]]


def test_dashboard_shows_every_metric() -> None:
    """And no other one."""
    assert named_in(" ".join(QUERIES)) == names_of_metrics()


def test_documented_metrics_and_alerts_match_code() -> None:
    """The tables of docs/how-to/metrics.md have each of them."""
    text = (ROOT / "docs/how-to/metrics.md").read_text(encoding="utf-8")
    first_cells = " ".join(re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE))
    assert named_in(first_cells) == names_of_metrics()
    rules = (FILES / "alert-rules.yml").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE)
    assert named == re.findall(r"- alert: (\w+)", rules)


def test_alert_rules_name_metrics_that_exist() -> None:
    assert named_in((FILES / "alert-rules.yml").read_text(encoding="utf-8")) <= names_of_metrics() | {"pipeline"}


@pytest.mark.needs("prometheus")
@pytest.mark.processes
def test_every_query_of_the_dashboard_has_data(project: FarmProject, tmp_path: Path) -> None:
    """Each of them has numbers while a farm plays."""
    project.configure(workers=2)
    project.add_genomes(games(1000, 0.05))
    assert all(any(name in query for query in QUERIES) for name in VARIABLES)
    queries = [re.sub(r"\$\w+", lambda found: VARIABLES[found[0]], query) for query in QUERIES]
    (tmp_path / "token").write_text("a-token-of-16-characters")
    (tmp_path / "token").chmod(0o600)
    with served(project.root, "--token", f"file:{tmp_path / 'token'}") as served_at:
        host = project.start()
        target = served_at.removeprefix("http://").rstrip("/")
        with prometheus(tmp_path, target) as address:

            def without_data() -> list[str]:
                found = {query: answered(address, query) for query in queries}
                return [query for query, values in found.items() if not any(map(math.isfinite, values))]

            assert eventually(lambda: not without_data(), 20, 0.5), without_data()
            assert answered(address, 'up{job="pipeline"}') == [1.0]
            assert answered(address, "pipeline_host_playing") == [1.0]
    project.interrupt(host)
    project.wait_for_end(host)


def promtool(*arguments: str | Path, within: Path) -> None:
    """Fails with what `promtool` says unless it accepts."""
    command = ["promtool", *arguments]
    done = subprocess.run(command, cwd=within, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs("promtool")
def test_configuration_in_docs_is_valid() -> None:
    promtool("check", "config", "prometheus.yml", within=FILES)


@pytest.mark.needs("promtool")
def test_alerts_are_raised_by_farms_in_trouble_only(tmp_path: Path) -> None:
    """The cases are in tests/data/alert-rules-test.yml."""
    for path in (FILES / "alert-rules.yml", ROOT / "tests/data/alert-rules-test.yml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    promtool("test", "rules", "alert-rules-test.yml", within=tmp_path)
