"""`pipeline service` with a real systemd: a project is played in the background until its service is removed.

The manager is that of a user, in namespaces of its own. A unit of the whole system is only checked, by systemd-analyze.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ExitCode
from pipeline.service.definition import RESTART_S, Service, systemd_unit
from tests.harness.farm_project import FarmProject
from tests.harness.systemd import UserServices
from tests.harness.waiting import PATIENCE_S, eventually
from tests.programs.system_programs import SYSTEMD, require

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[UserServices]:
    require(*SYSTEMD, root=True)
    home = tmp_path / "home"
    home.mkdir()
    with UserServices(home) as manager:
        yield manager


@pytest.fixture
def project(tmp_path: Path) -> Iterator[FarmProject]:
    project = FarmProject(tmp_path / "my bots")
    project.configure(workers=1)
    yield project
    project.close()


def service(services: UserServices, command: str, root: Path) -> tuple[int, str]:
    """Exit code and output of `pipeline service COMMAND`."""
    done = services.run(sys.executable, "-m", "pipeline", "service", command, "--root", root)
    return done.returncode, done.stdout + done.stderr


def is_finished(project: FarmProject, generation: int) -> bool:
    path = project.root / "results" / f"gen-{generation:04d}" / "summary.json"
    return path.exists() and bool(json.loads(path.read_text())["finished"])


def test_project_is_played_in_the_background(services: UserServices, project: FarmProject) -> None:
    """From its installation on, also after its process was killed; nothing of the project is removed."""
    project.add_genomes({"a": {}, "b": {}}, generation=1)
    assert service(services, "status", project.root)[0] == ExitCode.BAD_INPUT

    code, printed = service(services, "install", project.root)
    assert code == ExitCode.OK, printed
    assert eventually(lambda: is_finished(project, 1), PATIENCE_S)

    (watching,) = services.processes(["watch", str(project.root)])
    watching.kill()
    project.add_genomes({"c": {}}, generation=2)
    assert eventually(lambda: is_finished(project, 2), RESTART_S + PATIENCE_S)
    code, printed = service(services, "status", project.root)
    assert (code, "restarted 1 times" in printed) == (ExitCode.OK, True), printed

    code, printed = service(services, "uninstall", project.root)
    assert code == ExitCode.OK, printed
    assert not services.processes(["watch", str(project.root)])
    assert service(services, "status", project.root)[0] == ExitCode.BAD_INPUT
    for generation in (1, 2):
        project.assert_counted_once(generation=generation)


def test_project_that_cannot_be_used_is_not_installed(services: UserServices, tmp_path: Path) -> None:
    """One line says why; it would fail again and again."""
    root = tmp_path / "empty"
    root.mkdir()

    code, printed = service(services, "install", root)

    assert code == ExitCode.BAD_INPUT
    assert len(printed.splitlines()) == 1
    assert "pipeline.toml" in printed


def test_service_that_fails_is_shown(services: UserServices, project: FarmProject) -> None:
    """With exit code 1: it is installed, and does not run."""
    assert service(services, "install", project.root)[0] == ExitCode.OK
    name = Service(project.root, Path(sys.executable)).name
    services.run("systemctl", "--user", "stop", f"{name}.service")

    code, printed = service(services, "status", project.root)

    assert code == ExitCode.FAILED
    assert "inactive" in printed


@pytest.mark.parametrize("user", ["", "daemon"])
def test_systemd_accepts_the_unit(tmp_path: Path, user: str) -> None:
    """Of a user and of the whole system, for a path with everything that systemd would expand."""
    require(*SYSTEMD)
    service = Service(tmp_path / 'a b %h $HOME "x"', Path(sys.executable))
    unit = tmp_path / f"{service.name}.service"
    unit.write_text(systemd_unit(service, path=os.environ["PATH"], user=user))

    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)

    ours = [line for line in done.stderr.splitlines() if service.name in line]
    assert ours == []
