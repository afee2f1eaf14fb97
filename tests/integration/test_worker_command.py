"""`pipeline worker` and the files below `workers/` that it writes and reads, without a host."""

import os
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.control.worker_control import WorkerControl
from pipeline.errors import ConfigError, ConflictError, InputError, NotFoundError
from tests.harness.command_line import pipeline

CONFIG = """
[evaluator]
python = "game:play"
[local]
workers = 1
[[worker]]
name = "vm-1"
share = "shares/vm-1"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.toml").write_text(CONFIG)
    return tmp_path


def describe(root: Path, name: str, text: str) -> Path:
    """Writes a description by hand."""
    path = root / "workers" / f"{name}.toml"
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_added_worker_is_one_of_the_project(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All commands see it, and the list says where each is configured."""
    code, text, _ = pipeline(capsys, "worker", "add", "vm-2", "--share", root / "elsewhere", "--root", root)
    assert code == 0, text
    assert load_config(root).worker_names() == ["local-0", "vm-1", "vm-2"]
    WorkerControl(root).drain("vm-1")
    _code, text, _ = pipeline(capsys, "worker", "list", "--root", root)
    rows = [line.split() for line in text.splitlines()]
    assert rows[1:] == [
        ["local-0", "[local]"],
        ["vm-1", "[[worker]]", "shares/vm-1", "yes"],
        ["vm-2", "workers/vm-2.toml", str(root / "elsewhere")],
    ]


def test_share_in_a_description_is_relative_to_its_folder(root: Path) -> None:
    """Host and pilots may see the common disk under different paths."""
    describe(root, "p1", 'share = "p1"\nlease_s = 60\n')
    (worker,) = [table for table in load_config(root).worker if table.name == "p1"]
    assert worker.place == str(root / "workers" / "p1")


def test_project_may_wait_for_its_first_worker(root: Path) -> None:
    """With a folder of descriptions, though it is empty, no worker need be configured."""
    (root / "pipeline.toml").write_text('[evaluator]\npython = "game:play"\n')
    (root / "workers").mkdir()
    assert load_config(root).worker_names() == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('share = "a"\nname = "b"\n', "`name` does not stand in a description"),
        ('share = "a"\nmachine = "vm-9"\n', "`machine` cannot be described"),
        ('share = "//server/a"\naccount = "me"\nsecret = "env:SECRET"\n', "known to games that run already"),
        ('share = "a"\nlease_s = 1\n', "lease_s"),
        ('share = "a"\ndepth = 1\n', "depth"),
        ("share = \n", "not valid TOML"),
        ('share = "shares/../../shares/vm-1"\n', "has the share of worker 'vm-1'"),
        ("#" * 70_000, "not a file of at most 65536 bytes"),
    ],
)
def test_bad_description_is_named(root: Path, text: str, problem: str) -> None:
    """The file, and what is wrong with it."""
    describe(root, "p1", text)
    with pytest.raises(ConfigError) as raised:
        load_config(root)
    assert "workers" in str(raised.value)
    assert problem in str(raised.value)


def test_share_of_a_configured_worker_over_smb_is_found_again(root: Path) -> None:
    """Whatever the form of its path."""
    with open(root / "pipeline.toml", "a", encoding="utf-8") as config:
        config.write('[[worker]]\nname = "vm-5"\nshare = "//vm-5/exchange"\n')
    describe(root, "p1", "share = '\\\\VM-5\\exchange'\n")
    with pytest.raises(ConfigError, match="has the share of worker 'vm-5'"):
        load_config(root)


@pytest.mark.skipif(sys.platform == "win32", reason="access lists decide there")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_description_that_others_may_write_is_refused(root: Path, what: str) -> None:
    """It names a share that the host reads and an account that it logs in with."""
    path = describe(root, "p1", 'share = "p1"\n')
    os.chmod(path if what == "file" else path.parent, 0o777)
    with pytest.raises(ConfigError, match="others may write it"):
        load_config(root)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_link_in_place_of_a_description_is_refused(root: Path, tmp_path: Path) -> None:
    """It would be read, although another user may own what it leads to."""
    (tmp_path / "other.toml").write_text('share = "p1"\n')
    (root / "workers").mkdir()
    (root / "workers" / "p1.toml").symlink_to(tmp_path / "other.toml")
    with pytest.raises(ConfigError, match="not a file"):
        load_config(root)


@pytest.mark.parametrize("name", ["../vm-3", "a b", "", ".hidden", "x" * 64])
def test_worker_name_that_is_none_writes_nothing(root: Path, name: str) -> None:
    """Neither in the folder nor beside it."""
    with pytest.raises(InputError):
        WorkerControl(root).add(name, {"share": "somewhere"})
    assert [path for path in (root / "workers").glob("*") if path.is_file()] == []


def test_name_in_use_is_refused(root: Path) -> None:
    """Also with other capitals, and for a configured worker."""
    with pytest.raises(ConflictError, match="there is a worker VM-1 already"):
        WorkerControl(root).add("VM-1", {"share": "somewhere"})


def test_configured_worker_is_not_removed(root: Path) -> None:
    """Its table is the user's."""
    for name, where in (("vm-1", r"a \[\[worker\]\] table"), ("local-0", r"\[local\] workers")):
        with pytest.raises(ConflictError, match=f"{name} stands in {where} of pipeline.toml"):
            WorkerControl(root).remove(name)


def test_worker_without_a_machine_is_not_restarted(root: Path) -> None:
    """The request would be refused by the host, later."""
    with pytest.raises(ConflictError, match="vm-1 has no machine that could be restarted from here"):
        WorkerControl(root).restart("vm-1")
    WorkerControl(root).restart("local-0")


def test_what_is_restarted_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agent of a local worker, and the machine of one that has a machine."""
    with open(root / "pipeline.toml", "a", encoding="utf-8") as config:
        config.write('[[worker]]\nname = "vm-6"\nmachine = "farm-6"\n[hyperv]\n')

    for name, what in (("local-0", "agent"), ("vm-6", "machine")):
        _code, text, _ = pipeline(capsys, "worker", "restart", name, "--root", root)
        assert text.startswith(f"the {what} of {name} will be restarted")


def test_unknown_worker_is_named(root: Path) -> None:
    """With those that there are."""
    for act in ("drain", "give_back", "restart", "remove"):
        with pytest.raises(NotFoundError, match="vm-7: no worker of that name; there are local-0, vm-1"):
            getattr(WorkerControl(root), act)("vm-7")


def test_removed_worker_is_no_longer_drained(root: Path) -> None:
    """One of the same name that joins later gets work."""
    describe(root, "p1", 'share = "p1"\n')
    control = WorkerControl(root)
    control.drain("p1")
    control.remove("p1")
    assert control.drained() == frozenset()
    assert load_config(root).worker_names() == ["local-0", "vm-1"]
