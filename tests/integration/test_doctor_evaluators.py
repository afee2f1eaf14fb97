"""`pipeline doctor` for evaluators: which worker does not play what it should, in which files, and what to do."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.evaluation.version import shortened
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, EvaluatorRecord, encode
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EvaluatorTable
from pipeline.config import load_config
from pipeline.diagnosis import evaluators, shares
from pipeline.diagnosis.evaluators import reported_evaluator
from pipeline.host.evaluator_packing import pack
from pipeline.paths import ProjectPaths
from pipeline.storage.deployment_store import DeploymentStore
from tests.fakes.memory_files import MemoryFiles
from tests.harness import records
from tests.harness.command_line import pipeline

GAME = {"game.py": "def play(genome, trial): return 1", "rules.py": "gravity = 10"}
OTHER_GAME = {**GAME, "rules.py": "gravity = 9"}
BOTH = "in [evaluator] of both (docs/how-to/template-vm.md)"
AGAIN = "start `inbox-agent` again"


class Farm:
    """A project with shares in folders, where agents have reported what they have loaded."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._tmp_path, self._capsys = tmp_path / "project", tmp_path, capsys
        self._workers: list[str] = []
        self.settings = ""  #: of [evaluator] and other tables
        self.root.mkdir()

    def knows(self, files: Mapping[str, str], table: str = 'python = "game:play"\nfiles = ["**/*.py"]') -> str:
        """This computer has the evaluator's files; returns their version."""
        self.settings = f"[evaluator]\n{table}\n"
        write(self.root, files)
        (self.root / "pipeline.toml").write_text(self.settings)
        (self.root / "state").mkdir()
        return EvaluatorFiles(EvaluatorTable(python="game:play"), self.root).version()

    def worker(self, name: str) -> LocalFiles:
        """A share in which no agent has reported anything."""
        self._workers.append(name)
        self.share(name).mkdir()
        files = LocalFiles(self.share(name))
        files.make_folders()
        return files

    def plays(self, name: str, files: Mapping[str, str], /, **table: Any) -> str:
        """An agent has loaded these files, and reports them; returns their version."""
        share = self.worker(name)
        folder = self._tmp_path / f"machine of {name}"
        write(folder, files)
        settings = EvaluatorTable(**table or {"python": "game:play"})
        state = EvaluatorFiles(settings, folder).look()
        record = EvaluatorRecord(
            evaluator=state.version,
            target=str(settings),
            files=shortened(state.files, layout.FILES_BYTES_MAX),
            files_count=len(state.files),
        )
        share.replace("status/evaluator.json", encode(record))
        self.beats(name, evaluator=state.version)
        return state.version

    def beats(self, name: str, **fields: Any) -> None:
        LocalFiles(self.share(name)).replace("status/agent.json", encode(records.beat(**fields)))

    def deploys(self) -> None:
        """The files of the project are deployed to all workers; no host has brought them yet."""
        config = load_config(self.root, check=False)
        store = DeploymentStore(ProjectPaths(self.root))
        with store.changing():
            store.add(pack(self.root, config, self.root, (), keep=True).deployment)

    def share(self, name: str) -> Path:
        return self._tmp_path / f"share of {name}"

    def record_of(self, name: str) -> Path:
        return self.share(name) / "status/evaluator.json"

    def doctor(self, *words: str) -> tuple[int, list[str]]:
        """Exit code and lines of `pipeline doctor` about workers."""
        tables = [f"[[worker]]\nname = '{name}'\nshare = '{self.share(name)}'\n" for name in self._workers]
        (self.root / "pipeline.toml").write_text("\n".join([self.settings, "[local]\nworkers = 0", *tables]))
        code, out, err = pipeline(self._capsys, "doctor", *words, "--root", self.root)
        assert err == ""
        assert all(line.isprintable() and len(line) < 3000 for line in out.splitlines())
        return code, [line for line in out.splitlines() if not line.startswith("disk: ")]

    def fault(self) -> str:
        """The only line that `pipeline doctor` prints."""
        code, lines = self.doctor()
        assert (code, len(lines)) == (1, 1)
        return lines[0]


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Farm:
    """All agents are alive; what contradicts itself does so for long."""
    monkeypatch.setattr(shares, "_heartbeat", lambda *_: iter(()))
    monkeypatch.setattr(shares, "FREE_BYTES_MIN", 1024)
    monkeypatch.setattr(evaluators, "AGREE_WAIT_S", 0.0)
    return Farm(tmp_path, capsys)


# --------------------------------------------------------------------------------------- compared with the project


def test_equal_evaluators_print_nothing(farm: Farm) -> None:
    """With -v one line has the version of all of them."""
    version = farm.knows(GAME)
    farm.plays("vm-0", GAME)
    farm.plays("vm-1", GAME)

    assert farm.doctor() == (0, [])
    assert f"vm-0, vm-1: evaluator version {version}, 2 files count" in farm.doctor("-v")[1]


def test_worker_with_other_files_is_named(farm: Farm) -> None:
    """Each file that differs, and what to do."""
    version = farm.knows({**GAME, "bots/walker.py": ""})
    farm.plays("vm-0", {**GAME, "bots/walker.py": ""})
    other = farm.plays("vm-1", {**OTHER_GAME, "debug.py": ""})

    assert farm.fault() == (
        f"vm-1: its evaluator version is {other}, that of the project is {version}: bots/walker.py is missing, "
        f"debug.py is new, rules.py differs; copy the files of the project there, or set `files` or `version` {BOTH}"
    )


def test_workers_with_the_same_difference_share_a_line(farm: Farm) -> None:
    """They were cloned from the same template."""
    farm.knows(GAME)
    for name in ("vm-0", "vm-1", "vm-2"):
        farm.plays(name, OTHER_GAME)

    assert farm.fault().startswith("vm-0, vm-1, vm-2: its evaluator version is ")


def test_five_files_are_named(farm: Farm) -> None:
    """The others are counted."""
    bots = {f"bot_{number}.py": "" for number in range(7)}
    farm.knows({**GAME, **bots})
    farm.plays("vm-0", GAME)

    missing = ", ".join(f"bot_{number}.py is missing" for number in range(5))
    assert f": {missing}, and 2 more; copy the files of the project there" in farm.fault()


def test_other_function_is_named(farm: Farm) -> None:
    """All files are equal."""
    farm.knows(GAME)
    farm.plays("vm-0", GAME, python="game:main")

    line = farm.fault()
    expected = "it plays `game:main` instead of `game:play`; give its agent the same command or function"
    assert line.endswith(f": {expected}, or set `version` {BOTH}")
    assert "copy" not in line


def test_long_commands_are_shown_where_they_differ(farm: Farm) -> None:
    """Their beginning is equal, and would hide it."""
    begin = ["python", "game.py", *(f"--option-{number}" for number in range(30))]
    farm.knows(GAME, f"command = {json.dumps([*begin, '--level', '3'])}\nfiles = ['*.py']")
    farm.plays("vm-0", GAME, command=[*begin, "--level", "4"], files=["*.py"])

    assert ": it plays `…--option-29 --level 4` instead of `…--option-29 --level 3`; give" in farm.fault()


def test_difference_that_no_record_shows_is_admitted(farm: Farm) -> None:
    """Two lists of arguments have the same text."""
    farm.knows(GAME, "command = ['python', 'game.py', 'a b']\nfiles = ['*.py']")
    farm.plays("vm-0", GAME, command=["python", "game.py", "a", "b"], files=["*.py"])

    expected = ": the command or function and all files are equal, as far as they are reported; copy the files of the"
    assert expected in farm.fault()


def test_project_that_names_its_version_compares_no_files(farm: Farm) -> None:
    """The files may differ; the agent has to name the same version."""
    farm.knows({}, 'version = "v7"')
    farm.plays("vm-0", OTHER_GAME, python="game:play", version="v7")
    farm.plays("vm-1", OTHER_GAME, python="game:play", version="v6")

    assert farm.fault() == (
        "vm-1: its evaluator version is v6, that of the project is v7: the project sets `version` in [evaluator], and "
        'its agent has another one or none; put the same evaluator there, and set `version = "v7"` in [evaluator] of '
        "its agent"
    )
    assert "vm-0: evaluator version v7, no file counts" in farm.doctor("-v")[1]


def test_agent_that_names_its_version_has_no_files(farm: Farm) -> None:
    """They are not called missing, because they need not be."""
    farm.knows(GAME)
    farm.plays("vm-0", GAME, python="game:play", version="v6")

    assert ": no file counts there, where 2 should; copy" in farm.fault()


def test_files_of_the_project_that_cannot_be_read_are_reported(farm: Farm) -> None:
    """There is nothing to compare with; what the agents report is shown all the same."""
    farm.knows(GAME, 'python = "game:play"\nfiles = ["levels/*.json"]')
    farm.plays("vm-0", GAME)
    farm.worker("vm-1")
    farm.beats("vm-1", state=AgentState.BROKEN, problem="no module named game")

    code, lines = farm.doctor()

    assert code == 1
    assert lines[0].startswith(f"[evaluator]: {farm.root}: no file matches 'levels/*.json' of `files` in [evaluator]")
    assert lines[1].startswith("vm-1: its evaluator cannot be loaded: no module named game; ")


def test_mixed_evaluators_are_no_fault_where_they_are_permitted(farm: Farm) -> None:
    """With -v they are printed."""
    farm.knows(GAME)
    farm.settings = "[generation]\nallow_mixed_evaluators = true\n" + farm.settings
    farm.plays("vm-0", OTHER_GAME)

    assert farm.doctor() == (0, [])
    assert farm.doctor("-v")[1][-1].endswith(": rules.py differs; `allow_mixed_evaluators` permits it")


# ------------------------------------------------------------------------------------- compared with a deployment


def test_deployed_evaluator_is_the_reference(farm: Farm) -> None:
    """Also if the files of the project were edited since; an agent that takes evaluators needs another deployment."""
    deployed = farm.knows(OTHER_GAME)
    farm.plays("vm-0", OTHER_GAME)
    other = farm.plays("vm-1", GAME)
    farm.beats("vm-1", evaluator=other, deployment=1)
    farm.deploys()
    write(farm.root, GAME)

    assert farm.fault() == (
        f"vm-1: its evaluator version is {other}, that of deployment 1 is {deployed}: rules.py differs; run "
        f"`pipeline deploy`, or set `files` or `version` {BOTH}"
    )


# ------------------------------------------------------------------------------------ compared with each other


def test_workers_are_compared_with_most_of_them(farm: Farm) -> None:
    """The host does not know what they play."""
    farm.plays("vm-0", OTHER_GAME)
    other = EvaluatorFiles(EvaluatorTable(python="game:play"), farm.root.parent / "machine of vm-0").version()
    version = farm.plays("vm-1", GAME)
    farm.plays("vm-2", GAME)

    assert farm.fault() == (
        f"vm-0: its evaluator version is {other}, that of most workers (vm-1, vm-2) is {version}: rules.py differs; "
        f"copy the files of vm-1 there, or set `files` or `version` {BOTH}"
    )


def test_one_of_two_workers_is_not_most(farm: Farm) -> None:
    """The first one is the reference, and the message does not say that it is right."""
    version = farm.plays("vm-0", GAME)
    farm.plays("vm-1", OTHER_GAME)

    assert f", that of vm-0 is {version}: rules.py differs; copy the files of vm-0 there" in farm.fault()


def test_single_worker_has_no_reference(farm: Farm) -> None:
    """Also if only one is asked for."""
    farm.plays("vm-0", GAME)
    farm.plays("vm-1", OTHER_GAME)

    assert farm.doctor("vm-1") == (0, [])


def test_reference_without_record_has_only_a_version(farm: Farm) -> None:
    """The fault of its own is a line as well."""
    for name, game in (("vm-0", GAME), ("vm-1", GAME), ("vm-2", OTHER_GAME)):
        farm.plays(name, game)
    farm.record_of("vm-0").unlink()
    assert any(
        "that of most workers (vm-0, vm-1) is" in line and "rules.py differs" in line for line in farm.doctor()[1]
    )

    farm.record_of("vm-1").unlink()
    missing, different = farm.doctor()[1]

    assert missing == f"vm-0, vm-1: status/evaluator.json is missing; {AGAIN}, which writes it"
    assert ": what differs is not known, because vm-0 does not report it; copy the files of vm-0" in different


# -------------------------------------------------------------------------------------------- nothing is loaded


def test_broken_evaluator_is_reported_with_its_problem(farm: Farm) -> None:
    """In one printable line, also where the agent does not know the share's owner."""
    farm.worker("vm-0")
    farm.beats("vm-0", state=AgentState.BROKEN, problem="no module\x1b[31m named\ngame")
    assert farm.fault() == (
        "vm-0: its evaluator cannot be loaded: no module [31m named game; run `inbox-agent doctor` in its machine"
    )

    farm.beats("vm-0", state=AgentState.UNOWNED, problem="no module named game")
    assert "cannot be loaded: no module named game; " in farm.fault()

    farm.beats("vm-0", state=AgentState.BROKEN)
    assert "cannot be loaded: its agent does not say why; " in farm.fault()


def test_evaluator_that_is_being_loaded_is_no_fault(farm: Farm) -> None:
    """It is printed with -v, and is not compared."""
    farm.knows(GAME)
    farm.plays("vm-0", OTHER_GAME)
    farm.beats("vm-0", state=AgentState.LOADING)

    assert farm.doctor() == (0, [])
    assert farm.doctor("-v")[1][-1] == "vm-0: its evaluator is being loaded"


def test_agent_without_owner_may_have_loaded_nothing(farm: Farm) -> None:
    """It waits for a host."""
    farm.worker("vm-0")
    farm.beats("vm-0", state=AgentState.UNOWNED)

    assert farm.doctor("-v")[1][-1] == "vm-0: its agent is unowned and names no evaluator version"


def test_silent_agent_is_not_compared(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files may have been changed since."""
    silent: Iterator[evaluators.Fault] = iter([("it was silent", "start it")])
    monkeypatch.setattr(shares, "_heartbeat", lambda *_: silent)
    farm.knows(GAME)
    farm.plays("vm-0", OTHER_GAME)

    assert farm.fault() == "vm-0: it was silent; start it"


# ------------------------------------------------------------------------------------------ records of a hostile guest


def fields(**changes: Any) -> bytes:
    """A record of an evaluator as JSON, with fields that `EvaluatorRecord` does not accept."""
    valid = {"layout": 2, "evaluator": records.VERSION, "target": "game:play", "files": {}, "files_count": 0}
    return json.dumps({**valid, **changes}).encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hello", "cannot be read (evaluator.json: JSON is malformed"),
        (b"\xff\xfe", "cannot be read (evaluator.json: "),
        (b"", "cannot be read (evaluator.json: "),
        (b"[" * 60_000, "cannot be read (evaluator.json: "),
        (fields(evaluator="a" * 1_000_000), "cannot be read (status/evaluator.json: larger than 65536 bytes)"),
        (fields(evaluator="a" * 60_000), "cannot be read (evaluator.json: Expected `str` matching regex"),
        (fields(evaluator="\x1b[2J"), "cannot be read (evaluator.json: Expected `str` matching regex"),
        (fields(evaluator=7), "cannot be read (evaluator.json: Expected `str`, got `int` - at `$.evaluator`"),
        (fields(target="a" * 1001), "cannot be read (evaluator.json: Expected `str` of length <= 1000"),
        (fields(files=["game.py"]), "cannot be read (evaluator.json: Expected `object`, got `array` - at `$.files`"),
        (fields(files={"game.py": "no digest"}), "cannot be read (evaluator.json: Expected `str` matching regex"),
        (fields(files={"a" * 201: "0" * 16}), "cannot be read (evaluator.json: Expected `str` of length <= 200"),
        (fields(files_count=-1), "cannot be read (evaluator.json: Expected `int` >= 0"),
    ],
)
def test_damaged_record_is_one_clear_line(farm: Farm, content: bytes, expected: str) -> None:
    """The version is that of the heartbeat, and equals the project's."""
    farm.settings = f'[evaluator]\nversion = "{records.VERSION}"\n'
    farm.worker("vm-0")
    farm.beats("vm-0", evaluator=records.VERSION)
    farm.record_of("vm-0").write_bytes(content)

    line = farm.fault()

    assert line.startswith(f"vm-0: status/evaluator.json {expected}")
    assert line.endswith(f"); install the same version on host and machine, and {AGAIN}")
    assert len(line) < 500


def test_folder_in_place_of_record_is_one_clear_line(farm: Farm) -> None:
    """The guest may put anything there."""
    farm.worker("vm-0")
    farm.beats("vm-0", evaluator="v1")
    farm.record_of("vm-0").mkdir()

    assert farm.fault().startswith("vm-0: status/evaluator.json cannot be read (status/evaluator.json: not a regular")


@pytest.mark.parametrize(("number", "shown"), [(1, "layout 1, this program uses layout 2"), (10**4000, "layout 10000")])
@pytest.mark.parametrize("name", ["agent.json", "evaluator.json"])
def test_record_of_another_layout_is_of_another_version(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, name: str, number: int, shown: str
) -> None:
    """Heartbeat or record; a layout of 4000 digits does not fill the terminal."""
    monkeypatch.undo()
    monkeypatch.setattr(shares, "FREE_BYTES_MIN", 1024)
    monkeypatch.setattr(evaluators, "AGREE_WAIT_S", 0.0)
    farm.plays("vm-0", GAME)
    path = farm.share("vm-0") / "status" / name
    path.write_bytes(path.read_bytes().replace(b'"layout": 2', f'"layout": {number}'.encode()))
    if name == "evaluator.json":
        monkeypatch.setattr(shares, "_heartbeat", lambda *_: iter(()))

    line = farm.fault()

    assert line.startswith(f"vm-0: its agent is of another version of this program ({name}: {shown}")
    assert line.endswith("; install the same version on host and machine")
    assert len(line) < 400


def test_heartbeat_that_becomes_damaged_is_reported(farm: Farm) -> None:
    """After it was found to be alive."""
    farm.worker("vm-0")
    (farm.share("vm-0") / "status/agent.json").write_bytes(b"{}")

    assert farm.fault().startswith("vm-0: status/agent.json cannot be read (agent.json: ")


def test_record_that_contradicts_the_heartbeat_is_named(farm: Farm) -> None:
    """Nothing is concluded from its files."""
    version = farm.knows(GAME)
    other = farm.plays("vm-0", OTHER_GAME)
    farm.beats("vm-0", evaluator=version)
    contradiction = f"its heartbeat names evaluator version {version}, status/evaluator.json names {other}"
    assert farm.fault() == f"vm-0: {contradiction}; {AGAIN}, which writes both"

    farm.beats("vm-0", evaluator="v9")
    assert farm.fault() == (
        f"vm-0: its evaluator version is v9, that of the project is {version}: what differs is not known, because its "
        f"heartbeat names evaluator version v9, status/evaluator.json names {other}; {AGAIN}, which writes both"
    )


def test_record_is_written_before_the_heartbeat_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor that looks between the two looks again."""

    class Between(MemoryFiles):
        looks = 0

        def read(self, path: str, bytes_max: int) -> bytes:
            if path == "status/evaluator.json":
                self.looks += 1
                if self.looks == 2:
                    self.replace("status/agent.json", encode(records.beat(evaluator="v2")))
            return super().read(path, bytes_max)

    files = Between()
    files.make_folders()
    files.replace("status/evaluator.json", encode(EvaluatorRecord(evaluator="v2", target="game:play", files_count=0)))
    files.replace("status/agent.json", encode(records.beat(evaluator="v1")))

    reported = reported_evaluator("vm-0", files)

    assert reported.beat.evaluator == "v2"
    assert isinstance(reported.record, EvaluatorRecord)
    assert files.looks == 3


def test_what_a_guest_wrote_is_printed_clean(farm: Farm) -> None:
    """Command and paths become one printable line of bounded length."""
    farm.knows(GAME)
    farm.worker("vm-0")
    farm.beats("vm-0", evaluator="v1")
    hostile = {"\x1b]0;title\x07\n" + "\u202e" * 30 + str(number): "0" * 16 for number in range(100)}
    farm.record_of("vm-0").write_bytes(
        fields(evaluator="v1", target="\x1b[2J\r" + "x" * 990, files=hostile, files_count=100)
    )

    line = farm.fault()  # is printable, which `doctor` checks

    assert ": it plays `[2J xxx" in line
    assert "]0;title" in line
    assert len(line) < 1200


# ------------------------------------------------------------------------------------------------ records that were cut


def test_record_without_all_files_is_compared_as_far_as_it_goes(farm: Farm) -> None:
    """Files that did not fit are neither missing nor equal."""
    bots = {f"bots/{number:03}-{'x' * 100}.py": "" for number in range(500)}
    farm.knows({**GAME, **bots})
    farm.plays("vm-0", {**OTHER_GAME, **bots, "a.py": ""})
    kept = len(json.loads(farm.record_of("vm-0").read_bytes())["files"])
    assert kept < 500

    line = farm.fault()

    assert f": a.py is new; only the first {kept} of 503 files were reported and compared; copy" in line


def test_cut_reference_is_compared_as_far_as_it_goes(farm: Farm) -> None:
    """The same among workers."""
    bots = {f"bots/{number:03}-{'x' * 100}.py": "" for number in range(500)}
    farm.plays("vm-0", {**GAME, **bots})
    farm.plays("vm-1", {**GAME, "a.py": ""})

    line = farm.fault()

    assert ": a.py is new, bots/000-" in line
    assert "game.py" not in line
    assert " of 502 files were reported and compared; copy the files of vm-0" in line


def test_difference_beyond_the_cut_is_admitted(farm: Farm) -> None:
    """It is in a file that did not fit."""
    bots = {f"bots/{number:03}-{'x' * 100}.py": "" for number in range(500)}
    farm.knows({**GAME, **bots})
    farm.plays("vm-0", {**OTHER_GAME, **bots})

    line = farm.fault()

    assert ": the command or function and all files are equal, as far as they are reported; only the first " in line


@pytest.mark.parametrize("count", [0, 2**53])
def test_count_of_files_may_be_any_number(farm: Farm, count: int) -> None:
    """Fewer than there are, or more than fit on any disk."""
    farm.knows(GAME)
    farm.worker("vm-0")
    farm.beats("vm-0", evaluator="v1")
    files = {"game.py": "0" * 16, "rules.py": "0" * 16}
    farm.record_of("vm-0").write_bytes(fields(evaluator="v1", files=files, files_count=count))

    line = farm.fault()

    assert ": game.py differs, rules.py differs; " in line
    assert (f"only the first 2 of {count} files" in line) == (count > 2)
