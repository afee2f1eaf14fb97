"""The description of the HTTP interface: it is valid, complete, and what the server does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.http_api.changing import PREFIX
from pipeline.http_api.endpoints import ENDPOINTS
from pipeline.http_api.openapi import openapi
from tests.harness.http_farm import HttpFarm, http_farm
from tests.harness.source_tree import ROOT
from tests.programs.http_fuzz import fuzz, fuzzed_project

DESCRIPTION: dict[str, Any] = openapi(ENDPOINTS, PREFIX)
OPERATIONS = {
    (method.upper(), path): operation
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
}


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpFarm]:
    project = fuzzed_project(tmp_path_factory.mktemp("openapi") / "farm")
    with http_farm(project.root) as farm:
        yield farm


def test_served_description_is_that_of_the_table(farm: HttpFarm) -> None:
    with farm.client("") as client:
        answer = client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(DESCRIPTION))
    assert DESCRIPTION["openapi"].startswith("3.1.")


def test_every_request_is_described() -> None:
    """With what it does, its scope, and the problems that it may have."""
    assert OPERATIONS.keys() == {(each.method, f"/v1{each.path}") for each in ENDPOINTS}
    assert len({operation["operationId"] for operation in OPERATIONS.values()}) == len(OPERATIONS)
    for endpoint in ENDPOINTS:
        operation = OPERATIONS[endpoint.method, f"/v1{endpoint.path}"]
        assert len(operation["description"]) > 20
        assert ("security" in operation) == (endpoint.scope is not None)
        assert (f"Scope: `{endpoint.scope}`" in operation["description"]) == (endpoint.scope is not None)
        wanted = {str(status) for status in endpoint.statuses} | {"400", "500", "503"}
        assert wanted <= operation["responses"].keys()
        if endpoint.is_change:
            assert {"401", "403", "429", "501"} <= operation["responses"].keys()


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DESCRIPTION)
    found = {part.partition('"')[0] for part in text.split('"#/')[1:]}
    for reference in found:
        node: Any = DESCRIPTION
        for key in reference.split("/"):
            node = node[key]
        assert node
    assert len(found) > 15


@pytest.mark.source
def test_guide_has_every_request() -> None:
    """In its table, with the scope."""
    guide = (ROOT / "docs/how-to/remote.md").read_text(encoding="utf-8")
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace("{number}", "7").replace("{name}", "NAME").replace("{worker}", "vm-3")
        path = path.replace("{attempt}", "ATTEMPT").replace("{file}", "FILE")
        lines = [
            line
            for line in guide.splitlines()
            if line.startswith((f"| `{endpoint.method} {path}`", f"| `{endpoint.method} {path}?"))
        ]
        assert len(lines) == 1, path
        assert lines[0].split(" | ")[1] == (str(endpoint.scope) if endpoint.scope is not None else "none")


@pytest.mark.processes
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_open", [True, False])
def test_schemathesis_finds_nothing(
    farm: HttpFarm, tmp_path: Path, is_open: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Valid and invalid requests, made from the description; `make fuzz-http` runs it longer."""
    code = fuzz(farm, tmp_path, is_open=is_open, examples=20 if is_open else 3, seed=1)
    output = capfd.readouterr().out
    assert code == 0, output[-10_000:]
    assert f"Tested: {len(ENDPOINTS)}" in output
