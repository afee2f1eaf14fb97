"""The host's side of one share: publishes and withdraws, reads what the agent wrote, without waiting.

Owns: how a host of the kit writes its records, and the games that it asks for.
Not here: waiting and judging (scenario), what is checked (checks).
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inbox_agent.conformance.outcome import CheckFailed
from inbox_agent.protocol import layout
from inbox_agent.protocol.files import FileInvalid, FileMissing, Unavailable
from inbox_agent.protocol.layout import (
    HEARTBEAT,
    INBOX,
    OUTBOX,
    STATUS,
    AgentRecord,
    AgentState,
    HostRecord,
    Kind,
    LayoutError,
    Record,
    ResultRecord,
    StartedRecord,
    StartRecord,
)
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.protocol.readers import R, read_record

FARM, WORKER = "9f2c41d07be85a36", "vm-03"  #: those of the examples, and of the records with verdicts
TIME_LIMIT_S = 60.0
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class RequestedGame:
    """A game for the agent, published or not."""

    start: StartRecord
    genome: bytes
    folder: Path  #: of this game, outside of the share

    @property
    def attempt(self) -> str:
        """The attempt id."""
        return self.start.attempt

    def reports(self) -> list[dict[str, Any]]:
        """What the game wrote down, once for each time that it was played."""
        return [json.loads(path.read_bytes()) for path in sorted(self.folder.glob("*.json"))]

    def finish(self) -> None:
        """Lets a game end that was told to wait."""
        self._release.touch()

    @property
    def _release(self) -> Path:
        return self.folder / "finish"


class HostSide:
    """One share with the folders of the layout, and the games of one worker."""

    def __init__(self, folder: Path) -> None:
        self.share, self._games = folder / "share", folder / "games"
        self.share.mkdir()
        self._games.mkdir()
        self.files = LocalFiles(self.share)
        self.files.make_folders()
        self.games: list[RequestedGame] = []
        self.epoch = 1

    # -------------------------------------------------------------------------------------------------------- writes

    def publish_owner(self, epoch: int = 1, **changes: Any) -> None:
        """Publishes the `host.json` of an epoch; later games are of that epoch."""
        self.epoch = epoch
        record = HostRecord(**{"farm": FARM, "worker": WORKER, "epoch": epoch, **changes})
        self.publish_record(layout.host_name(epoch), layout.encode(record))

    def game(self, changes: dict[str, Any] | None = None, *, held: bool = False, **orders: Any) -> RequestedGame:
        """A game that is not published yet.

        Args:
            changes: fields of its start signal that differ from the usual.
            held: it waits until `finish`.
            orders: what its genome says, see `game`.
        """
        number = len(self.games) + 1
        attempt = layout.attempt_id(7, number, 1, 1, "".join(secrets.choice(_ALPHABET) for _ in range(12)))
        folder = self._games / attempt
        folder.mkdir()
        orders |= {"number": number, "reports": str(folder), "outbox": str(self.share / OUTBOX)}
        orders |= {"until": str(folder / "finish")} if held else {}
        genome = json.dumps(orders).encode()
        fields: dict[str, Any] = {
            "farm": FARM,
            "worker": WORKER,
            "epoch": self.epoch,
            "publication": number,
            "attempt": attempt,
            "trial": 1,
            "seed": secrets.randbelow(2**31),
            "time_limit_s": TIME_LIMIT_S,
            "genome_name": f"genome {number}.json",
            "genome_suffix": ".json",
            "genome_bytes": len(genome),
            "genome_sha256": hashlib.sha256(genome).hexdigest(),
        }
        self.games.append(game := RequestedGame(StartRecord(**(fields | (changes or {}))), genome, folder))
        return game

    def publish(self, *games: RequestedGame) -> None:
        """Publishes games: the genome, then the start signal."""
        for game in games:
            self.publish_genome(game)
            self.publish_record(Kind.START.of(game.attempt), layout.encode(game.start))

    def publish_genome(self, game: RequestedGame) -> None:
        """Writes the genome of a game."""
        self.files.write(f"{INBOX}/{Kind.GENOME.of(game.attempt)}", game.genome)

    def publish_record(self, name: str, data: bytes) -> None:
        """Publishes any bytes as a record in `inbox/`."""
        self.files.publish(f"{INBOX}/{name}", data)

    def withdraw(self, game: RequestedGame) -> None:
        """Removes a start signal, then its genome."""
        self.files.remove([f"{INBOX}/{kind.of(game.attempt)}" for kind in (Kind.START, Kind.GENOME)])

    def overwrite_start(self, game: RequestedGame, data: bytes) -> None:
        """Damages a start signal, as a power cut does."""
        (self.share / INBOX / Kind.START.of(game.attempt)).write_bytes(data)

    def put(self, path: str, data: bytes = b"") -> Path:
        """Puts a file anywhere into the share, not as a host would."""
        place = self.share / path
        place.write_bytes(data)
        return place

    def put_claim(self, game: RequestedGame, run_id: str) -> None:
        """Publishes a claim as another agent would."""
        start = game.start
        claim = StartedRecord(
            farm=start.farm,
            worker=start.worker,
            epoch=start.epoch,
            attempt=game.attempt,
            boot_id="boot-other",
            run_id=run_id,
        )
        self.files.publish(f"{OUTBOX}/{Kind.STARTED.of(game.attempt)}", layout.encode(claim))

    def put_heartbeat(self, run_id: str, counter: int, *, announcement: bool = False) -> None:
        """Replaces the heartbeat as another agent would; an announcement names no farm."""
        owner: dict[str, Any] = {"farm": FARM, "worker": WORKER, "epoch": self.epoch}
        record = AgentRecord(
            **({} if announcement else owner),
            boot_id="boot-other",
            run_id=run_id,
            counter=counter,
            state=AgentState.UNOWNED if announcement else AgentState.IDLE,
        )
        self.files.replace(f"{STATUS}/{HEARTBEAT}", layout.encode(record))

    # --------------------------------------------------------------------------------------------------------- reads

    def heartbeat(self) -> AgentRecord | None:
        """The heartbeat. Raises CheckFailed if it is not valid."""
        return self._record(AgentRecord, STATUS, HEARTBEAT)

    def claim(self, game: RequestedGame) -> StartedRecord | None:
        """The claim of a game. Raises CheckFailed if it is not valid."""
        return self._record(StartedRecord, OUTBOX, Kind.STARTED.of(game.attempt))

    def result(self, game: RequestedGame) -> ResultRecord | None:
        """The result of a game. Raises CheckFailed if it is not valid."""
        return self._record(ResultRecord, OUTBOX, Kind.RESULT.of(game.attempt))

    def payload(self, name: str) -> bytes | None:
        """A file of `outbox/`."""
        try:
            return (self.share / OUTBOX / name).read_bytes()
        except OSError:
            return None

    def outbox(self) -> dict[str, set[Kind]]:
        """The files in `outbox/`, by attempt."""
        found: dict[str, set[Kind]] = {}
        for name in self.files.names(OUTBOX):
            if (known := layout.attempt_of(name)) is not None:
                found.setdefault(known[0], set()).add(known[1])
        return found

    def kinds(self, game: RequestedGame) -> set[Kind]:
        """What the agent has written for a game."""
        return self.outbox().get(game.attempt, set())

    def _record(self, kind: type[R], folder: str, name: str) -> R | None:
        try:
            return read_record(self.files, kind, folder, name)
        except (FileMissing, Unavailable):
            return None
        except (FileInvalid, LayoutError) as error:
            raise CheckFailed(f"a valid {_NAMES[kind]}", str(error)) from error


_NAMES: dict[type[Record], str] = {AgentRecord: "heartbeat", StartedRecord: "claim", ResultRecord: "result"}
