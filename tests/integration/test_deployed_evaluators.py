"""Deployments in the agent's machine: what is taken from a share, what is refused, and what is played then."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inbox_agent import deployments
from inbox_agent.deployments import KEPT_MAX, TRIES_MAX, TRY_AGAIN_S, DeployedEvaluators, DeploymentIntake, no_evaluator
from inbox_agent.evaluation.versioned import EvaluatorSource
from inbox_agent.evaluator_archive import pack_evaluator
from inbox_agent.evaluator_files import EvaluatorFiles
from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.settings import EvaluatorTable
from tests.harness import records
from tests.harness.raw_zip import DEFLATED, REGULAR, Entry, raw_zip
from tests.harness.records import FARM, WORKER, sha256

TABLE = EvaluatorTable(python="play:play")


@dataclass
class Guest:
    """A share, and the folder of deployed evaluators of its agent."""

    root: Path
    now: float = 1000.0
    made: list[Path] = field(default_factory=list)  #: the folders of the evaluators that were made

    def __post_init__(self) -> None:
        (self.root / "share").mkdir()
        self.files = LocalFiles(self.root / "share")
        self.files.make_folders()
        self.start()

    @property
    def evaluators(self) -> Path:
        return self.root / "state" / "evaluators"

    def start(self) -> None:
        """The agent starts, or starts again."""
        self.deployed = DeployedEvaluators(self.evaluators, EvaluatorTable())
        self.intake = DeploymentIntake(self.files, self.deployed, self._make, lambda: self.now)

    def _make(self, table: EvaluatorTable, folder: Path) -> EvaluatorSource:
        self.made.append(folder)
        return no_evaluator()

    def pack(self, text: str = "x = 1\n") -> tuple[bytes, str]:
        """The archive of an evaluator of one file, and its version."""
        source = self.root / "source"
        source.mkdir(exist_ok=True)
        (source / "play.py").write_text(text)
        files = EvaluatorFiles(TABLE, source).read()
        pack_evaluator(source, files, self.root / "packed.zip")
        return (self.root / "packed.zip").read_bytes(), EvaluatorFiles(TABLE, source).version()

    def publish(self, number: int, archive: bytes, version: str, **other: Any) -> None:
        """Publishes a deployment as a host does."""
        fields = {
            "farm": FARM,
            "worker": WORKER,
            "number": number,
            "evaluator": version,
            "archive_bytes": len(archive),
            "archive_sha256": sha256(archive),
            "python": "play:play",
            **other,
        }
        self.files.deliver(
            f"inbox/{number}.deploy.zip", archive, f"inbox/{number}.deploy.json", layout.encode(DeployRecord(**fields))
        )

    def take(self, number: int) -> bool:
        """Takes a deployment if it is due; whether it was taken."""
        self.now += TRY_AGAIN_S
        return self.intake.due(number) == number and self.intake.take(number, records.host()) is not None

    def tries(self, number: int) -> int:
        """How often a deployment that cannot be taken is tried."""
        tried = 0
        for _ in range(3 * TRIES_MAX):
            self.now += TRY_AGAIN_S
            if self.intake.due(number) is not None:
                tried += 1
                assert self.intake.take(number, records.host()) is None
        return tried

    def current(self) -> tuple[int, str] | None:
        """Number and text of what an agent that starts now plays."""
        record = DeployedEvaluators(self.evaluators, EvaluatorTable()).current()
        return None if record is None else (record.number, (self.deployed.folder_of(record) / "play.py").read_text())


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_deployment_is_taken_and_played_after_a_restart(guest: Guest) -> None:
    guest.publish(1, *guest.pack())

    assert guest.take(1)

    assert guest.current() == (1, "x = 1\n")
    guest.start()
    assert guest.intake.taken == 1
    assert guest.intake.due(1) is None


def test_folder_that_was_unpacked_before_is_not_fetched_again(guest: Guest) -> None:
    """Going back to a version that is there needs no archive."""
    guest.publish(1, *guest.pack("x = 1\n"))
    guest.publish(2, *guest.pack("x = 2\n"))
    assert guest.take(1)
    assert guest.take(2)
    _archive, version = guest.pack("x = 1\n")
    guest.publish(3, b"none", version)

    assert guest.take(3)

    assert guest.current() == (3, "x = 1\n")


def test_edited_folder_is_unpacked_again(guest: Guest) -> None:
    archive, version = guest.pack()
    guest.publish(1, archive, version)
    guest.take(1)
    (guest.made[0] / "play.py").write_text("edited\n")
    guest.publish(2, archive, version)

    assert guest.take(2)

    assert guest.current() == (2, "x = 1\n")


def test_old_evaluators_are_removed(guest: Guest) -> None:
    for number in range(1, KEPT_MAX + 4):
        guest.publish(number, *guest.pack(f"x = {number}\n"))
        assert guest.take(number)

    assert len(list(guest.evaluators.glob("v-*"))) == KEPT_MAX
    assert {path.name for path in guest.evaluators.iterdir() if not path.name.startswith("v-")} == {"current.json"}
    assert guest.current() == (KEPT_MAX + 3, f"x = {KEPT_MAX + 3}\n")


def test_leftovers_of_a_killed_agent_are_replaced(guest: Guest) -> None:
    """It was killed while it unpacked: a part of the files, a part of the archive."""
    guest.publish(1, *guest.pack())
    (guest.evaluators / "new" / "old").mkdir(parents=True)
    (guest.evaluators / "new" / "play.py").write_text("x")
    (guest.evaluators / "archive.zip").write_bytes(b"x" * 100_000)

    assert guest.take(1)

    assert guest.current() == (1, "x = 1\n")
    assert {path.name for path in guest.made[0].iterdir()} == {"play.py"}


@pytest.mark.parametrize("note", [b"", b"{", b'{"layout": 9}', b"\xff" * 100], ids=repr)
def test_damaged_note_of_what_is_played_is_no_error(guest: Guest, note: bytes) -> None:
    """The agent takes the deployment that is in the share again."""
    guest.publish(1, *guest.pack())
    guest.take(1)
    (guest.evaluators / "current.json").write_bytes(note)
    guest.start()

    assert guest.intake.taken == 0
    assert guest.take(1)


def wrong_records(archive: bytes, version: str) -> dict[str, dict[str, Any]]:
    """Fields of records that must not be taken."""
    return {
        "another farm": {"farm": "another"},
        "another worker": {"worker": "vm-9"},
        "wrong version": {"evaluator": "0" * 16},
        "version that is a path": {"evaluator": ".."},
        "wrong digest": {"archive_sha256": "0" * 64},
        "smaller size": {"archive_bytes": len(archive) - 1},
        "larger size": {"archive_bytes": len(archive) + 1},
        "nothing to play": {"python": None},
        "two things to play": {"command": ["play"]},
        "senseless function": {"python": "not a function"},
        "another function": {"python": "other:play"},
        "pattern of other files": {"files": ["*.lua"]},
        "pattern outside": {"files": ["../*"]},
        "absolute pattern": {"files": ["/etc/*"]},
    }


@pytest.mark.parametrize("case", wrong_records(b"", ""))
def test_wrong_record_is_refused(guest: Guest, case: str) -> None:
    """Five tries, and the evaluator before plays on."""
    guest.publish(1, *guest.pack("x = 1\n"))
    assert guest.take(1)
    archive, version = guest.pack("x = 2\n")
    guest.publish(2, archive, version, **wrong_records(archive, version)[case])

    assert guest.tries(2) == TRIES_MAX

    assert guest.intake.taken == 1
    assert guest.current() == (1, "x = 1\n")
    assert {path.name for path in guest.root.iterdir()} == {"share", "state", "source", "packed.zip"}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\0" * 50, b'{"layout": 3}', b"x" * 100_000, b'{"layout": 2, "number": 2}'], ids=len
)
def test_invalid_record_is_refused(guest: Guest, data: bytes) -> None:
    guest.publish(1, *guest.pack())
    guest.take(1)
    guest.files.publish("inbox/2.deploy.json", data)

    assert guest.tries(2) == TRIES_MAX
    assert guest.current() == (1, "x = 1\n")


def test_record_of_another_number_is_refused(guest: Guest) -> None:
    guest.publish(2, *guest.pack())
    record = guest.files.read("inbox/2.deploy.json", 65536)
    guest.files.publish("inbox/3.deploy.json", record)

    assert guest.tries(3) == TRIES_MAX
    assert guest.current() is None


def hostile_archives(version_file: bytes) -> dict[str, bytes]:
    """Archives that hold the right file, and something else."""
    good = Entry(name=b"play.py", data=version_file)
    whole = raw_zip([good])
    return {
        "parent": raw_zip([good, Entry(name=b"../../evil.py", data=b"evil")]),
        "absolute": raw_zip([good, Entry(name=b"/tmp/evil-of-a-test.py", data=b"evil")]),
        "link": raw_zip([good, Entry(name=b"a", data=b"/", external=0o120777 << 16), Entry(name=b"a/evil.py")]),
        "bomb": raw_zip([good, Entry(name=b"big.bin", data=bytes(2**20), method=DEFLATED, declared_size=2**31)]),
        "many": raw_zip([good, *(Entry(name=b"%d.txt" % n, external=REGULAR) for n in range(1001))]),
        "first quarter": whole[: len(whole) // 4],
        "second quarter": whole[: len(whole) // 2],
        "third quarter": whole[: len(whole) * 3 // 4],
        "no bytes of an archive": b"x",
    }


@pytest.mark.parametrize("case", hostile_archives(b""))
def test_hostile_archive_is_refused(guest: Guest, case: str) -> None:
    """Its digest is right: the host itself is hostile, or another program that writes into the share."""
    guest.publish(1, *guest.pack("x = 1\n"))
    guest.take(1)
    _archive, version = guest.pack("x = 2\n")
    guest.publish(2, hostile_archives(b"x = 2\n")[case], version)

    assert guest.tries(2) == TRIES_MAX

    assert guest.intake.taken == 1
    assert guest.current() == (1, "x = 1\n")
    assert {path.name for path in guest.evaluators.iterdir()} == {"current.json", guest.made[0].name}
    assert {path.name for path in guest.root.iterdir()} == {"share", "state", "source", "packed.zip"}
    assert {path.name for path in (guest.root / "state").iterdir()} == {"evaluators"}


def test_truncated_archive_in_the_share_is_taken_when_it_is_whole(guest: Guest) -> None:
    """A copy that is still under way."""
    archive, version = guest.pack()
    guest.publish(1, archive, version)
    whole = guest.root / "share" / "inbox" / "1.deploy.zip"
    whole.write_bytes(archive[:50])
    assert not guest.take(1)
    whole.write_bytes(archive)

    assert guest.take(1)


def test_missing_archive_is_tried_a_few_times(guest: Guest) -> None:
    guest.publish(1, *guest.pack())
    guest.files.remove(["inbox/1.deploy.zip"])

    assert guest.tries(1) == TRIES_MAX


def test_folder_in_place_of_the_archive_is_refused(guest: Guest) -> None:
    guest.publish(1, *guest.pack())
    guest.files.remove(["inbox/1.deploy.zip"])
    (guest.root / "share" / "inbox" / "1.deploy.zip").mkdir()

    assert guest.tries(1) == TRIES_MAX


def test_next_number_is_tried_after_one_that_was_given_up(guest: Guest) -> None:
    archive, version = guest.pack()
    guest.publish(1, archive, version, archive_sha256="0" * 64)
    assert guest.tries(1) == TRIES_MAX
    guest.publish(2, archive, version)

    assert guest.take(2)


def test_full_disk_is_tried_again(guest: Guest, tiny_disk: Path) -> None:
    """The evaluator before stays; there is no half of the new one."""
    small = Guest(tiny_disk)
    small.publish(1, *small.pack("x = 1\n"))
    assert small.take(1)
    archive, version = guest.pack("x = '" + "a" * 3_000_000 + "'\n")
    small.publish(2, archive, version)
    filler = tiny_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 65536)

    assert not small.take(2)
    assert small.current() == (1, "x = 1\n")
    filler.unlink()
    assert small.take(2)


def test_refusal_is_logged_in_one_line_without_control_characters(
    guest: Guest, caplog: pytest.LogCaptureFixture
) -> None:
    _archive, version = guest.pack()
    guest.publish(1, raw_zip([Entry(name=b"\x1b[31m\n.py")]), version)

    assert guest.tries(1) == TRIES_MAX

    lines = [record.getMessage() for record in caplog.records if record.name == deployments.__name__]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
