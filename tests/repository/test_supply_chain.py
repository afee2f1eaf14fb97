"""What is installed and bundled is locked by digest, and the workflow runs what its commits name."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.bundle.lock import LOCK, locked
from tests.harness.source_tree import PYPROJECT, ROOT

pytestmark = pytest.mark.source
TOOLS = ROOT / "requirements-dev.txt"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]


def versions_in(text: str) -> dict[str, list[str]]:
    """Package -> its versions: there is more than one if they differ between versions of Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ;\\]+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def test_lock_of_agent_has_its_requirements_and_pip() -> None:
    """For every platform: an entry with a marker would be missing from bundles for other ones."""
    needed = {canonicalize_name(Requirement(one).name) for one in PYPROJECT["project"]["dependencies"]}
    assert locked().keys() == needed | {"pip"}
    assert len(versions_in(LOCK.read_text("utf-8"))) == len(locked())


@pytest.mark.parametrize("extra", ["", "host", "dev", "docs", "fuzz", "sbom"])
def test_lock_satisfies_pyproject(extra: str) -> None:
    """After a change of pyproject.toml, `make lock` writes both files again."""
    lines = EXTRAS[extra] if extra else PYPROJECT["project"]["dependencies"]
    files = [versions_in(TOOLS.read_text("utf-8"))]
    if not extra:
        files.append({name: [version] for name, (version, _) in locked().items()})
    for requirement in map(Requirement, lines):
        for versions in files if requirement.name != "genome-pipeline" else ():
            found = versions.get(canonicalize_name(requirement.name), [])
            assert found and all(version in requirement.specifier for version in found), f"{requirement}: make lock"


@pytest.mark.parametrize("path", [LOCK, TOOLS], ids=lambda path: path.name)
def test_every_locked_package_has_digests_and_no_address(path: Path) -> None:
    """Any index may serve the files, because only the digests count."""
    text = path.read_text("utf-8")
    entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text
    assert "--index" not in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_names_actions_by_commit(path: Path) -> None:
    """With the tag for people; and pip installs only what is locked, or was built from this commit."""
    text = path.read_text("utf-8")
    uses = re.findall(r"uses: *(.+)", text)
    assert uses
    assert [one for one in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", one)] == []
    installs = re.findall(r"pip install (.+?)(?: &&|$)", text, re.MULTILINE)
    assert [one for one in installs if not one.startswith(("--require-hashes -r ", "--no-deps "))] == []
