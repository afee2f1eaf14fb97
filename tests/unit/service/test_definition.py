"""The definitions of a service: for systemd and for Windows, whatever the path of the project is."""

from pathlib import PurePosixPath as Path
from xml.etree import ElementTree

import pytest

from pipeline.errors import InputError
from pipeline.service.definition import Service, systemd_unit, task_xml

PYTHON = Path("/venv/bin/python")
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def test_projects_of_the_same_name_have_services_of_their_own() -> None:
    """The name tells people which project it is, and has no character that a manager of services refuses."""
    names = [
        Service(Path(root), PYTHON).name for root in ("/a/My Bots (2)", "/b/My Bots (2)", "/c/Ünï", "/", "/x" * 90)
    ]

    assert len(set(names)) == len(names)
    assert names[0].startswith("genome-pipeline-my-bots-2-")
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(name) < 80 for name in names)


@pytest.mark.parametrize("character", ["\n", "\0", "\x1b"])
def test_path_with_a_control_character_is_refused(character: str) -> None:
    """It would begin another line of the definition."""
    with pytest.raises(InputError, match="control characters"):
        Service(Path(f"/a{character}ExecStart=evil"), PYTHON)


def test_unit_of_a_user_starts_with_the_user() -> None:
    unit = systemd_unit(Service(Path("/farm"), PYTHON), path="/usr/bin")

    assert 'ExecStart="/venv/bin/python" "-m" "pipeline" "watch" "--root" "/farm"' in unit
    assert 'Environment="PATH=/usr/bin"' in unit
    assert "WantedBy=default.target" in unit
    assert "User=" not in unit


def test_unit_of_the_system_runs_as_the_owner_of_the_project() -> None:
    unit = systemd_unit(Service(Path("/farm"), PYTHON), path="/usr/bin", user="bots")

    assert "User=bots" in unit
    assert "WantedBy=multi-user.target" in unit


def test_words_of_a_unit_are_taken_literally() -> None:
    """systemd expands percent signs and dollars, and reads backslashes as C does."""
    unit = systemd_unit(Service(Path('/a b/%h $HOME "x" \\n'), PYTHON), path="/usr/bin")

    assert r'"--root" "/a b/%%h $$HOME \"x\" \\n"' in unit


def test_task_is_xml_with_the_command_and_the_user() -> None:
    """Also if the path has characters that XML has for itself."""
    service = Service(Path("/a & <b>"), PYTHON)

    task = ElementTree.fromstring(
        task_xml(service, user="HOST\\bots & co", command_line='-m pipeline --root "/a & <b>"')
    )

    assert task.findtext(f".//{TASK}Arguments") == '-m pipeline --root "/a & <b>"'
    assert task.findtext(f".//{TASK}UserId") == "HOST\\bots & co"
    assert task.findtext(f".//{TASK}ExecutionTimeLimit") == "PT0S"
