"""An agent that attacks its host through its share: `python -m tests.harness.hostile_agent SHARE STATE ATTACK VERSION`.

It sends valid heartbeats, with this version of the evaluator, and claims what it is given, so that the host gives it
work. POSIX only.
"""

import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness import minimal_agent
from tests.harness.minimal_agent import Agent

MIB = 1024 * 1024
RENAME_EXCHANGE, AT_FDCWD = 2, -100


class HostileAgent(Agent):
    """Answers each start signal at once, with a fitness of 1; subclasses attack besides."""

    def __init__(self, share: Path, state: Path) -> None:
        super().__init__(share, state, [])
        self.share = share
        self.numbers = itertools.count(1)

    def claim(self, start: dict[str, Any]) -> None:
        owner = {name: start[name] for name in ("farm", "worker", "epoch")}
        claim = {"layout": 2, **owner, "attempt": start["attempt"], "evaluator": minimal_agent.VERSION, **self.me()}
        self.publish(f"{start['attempt']}.started.json", claim)
        self.publish(f"{start['attempt']}.result.json", self.result(start))

    def result(self, start: dict[str, Any]) -> dict[str, Any]:
        return {
            "layout": 2,
            **{name: start[name] for name in ("farm", "worker", "epoch")},
            "attempt": start["attempt"],
            **{name: start[name] for name in ("trial", "seed", "genome_sha256")},
            "evaluator": minimal_agent.VERSION,
            "outcome": "completed",
            "fitness": 1.0,
            "metrics": {},
            "reason": "",
            "seconds": 0.01,
            **self.me(),
        }

    def act(self, names: list[str]) -> None:
        super().act(names)
        self.attack()

    def attack(self) -> None:
        """One round of the attack, some twenty times a second."""

    def unknown_result(self, **fields: Any) -> dict[str, Any]:
        """A result of an attempt that was never issued."""
        assert self.owner is not None
        attempt = f"g0001-{next(self.numbers):04d}-t1-a1-{secrets.token_hex(6)}"
        start = {**self.owner, "attempt": attempt, "trial": 1, "seed": 1, "genome_sha256": "0" * 64}
        return {**self.result(start), **fields}

    def publish_quickly(self, record: dict[str, Any], padding: int = 0) -> None:
        """Writes a result without the care of an honest agent."""
        final = self.outbox / f"{record['attempt']}.result.json"
        final.with_suffix(".new").write_bytes(json.dumps(record).encode() + b" " * padding)
        os.rename(final.with_suffix(".new"), final)


class SparseArtifacts(HostileAgent):
    """Its results have sixteen artifacts of 64 MiB, which take no room on its own disk."""

    def sparse_artifacts(self, attempt: str) -> list[dict[str, Any]]:
        sparse = self.state / "sparse"
        if not sparse.exists():
            with sparse.open("wb") as file:
                file.truncate(64 * MIB)
            self.digest = hashlib.sha256(bytes(64 * MIB)).hexdigest()
        folder = self.outbox / f"{attempt}.files"
        folder.mkdir(exist_ok=True)
        names = [f"a{number}.bin" for number in range(16)]
        for name in names:
            with contextlib.suppress(FileExistsError):
                os.link(sparse, folder / name)
        return [{"name": name, "size_bytes": 64 * MIB, "sha256": self.digest} for name in names]

    def result(self, start: dict[str, Any]) -> dict[str, Any]:
        return {**super().result(start), "artifacts": self.sparse_artifacts(start["attempt"])}


class UnknownSparseArtifacts(SparseArtifacts):
    """The same in results of attempts that were never issued."""

    def result(self, start: dict[str, Any]) -> dict[str, Any]:
        return HostileAgent.result(self, start)

    def attack(self) -> None:
        if next(self.numbers) < 40:
            record = self.unknown_result()
            self.publish_quickly({**record, "artifacts": self.sparse_artifacts(record["attempt"])})


class UnknownResults(HostileAgent):
    """Floods its outbox with results of 60 KiB of attempts that were never issued."""

    def attack(self) -> None:
        for _ in range(50):
            self.publish_quickly(self.unknown_result(), padding=60_000)


class UnknownClaims(HostileAgent):
    """Ten thousand claims of attempts that were never issued."""

    def attack(self) -> None:
        if len(os.listdir(self.outbox)) < 10_000:
            for _ in range(500):
                record = self.unknown_result()
                (self.outbox / f"{record['attempt']}.started.json").write_text(json.dumps(record))


class ManyFiles(HostileAgent):
    """A hundred thousand files of no meaning."""

    def attack(self) -> None:
        for _ in range(2000):
            if (number := next(self.numbers)) <= 100_000:
                (self.outbox / f"file-{number}").touch()


class MetricNames(HostileAgent):
    """Sixty-four new names of metrics in each result."""

    def result(self, start: dict[str, Any]) -> dict[str, Any]:
        return {**super().result(start), "metrics": {secrets.token_hex(16): 1.0 for _ in range(64)}}


class ExtremeNumbers(HostileAgent):
    """The largest numbers that a float can have."""

    def result(self, start: dict[str, Any]) -> dict[str, Any]:
        return {**super().result(start), "fitness": sys.float_info.max, "metrics": {"score": -sys.float_info.max}}


class RemovedSignals(HostileAgent):
    """Removes every start signal and genome as it comes."""

    def act(self, names: list[str]) -> None:
        for name in names:
            if name.startswith("g"):
                (self.inbox / name).unlink(missing_ok=True)


class Pipes(HostileAgent):
    """Puts pipes in place of what the host stages and publishes."""

    def act(self, names: list[str]) -> None:
        for folder in (self.inbox / "tmp", self.inbox):
            for name in os.listdir(folder):
                path = folder / name
                if path.is_file() and not name.endswith("host.json"):
                    with contextlib.suppress(OSError):
                        path.unlink()
                        os.mkfifo(path)


class EditedGenomes(HostileAgent):
    """Writes into every genome file that it is given."""

    def act(self, names: list[str]) -> None:
        for name in names:
            if name.endswith(".genome"):
                with contextlib.suppress(OSError):
                    os.chmod(self.inbox / name, 0o600)
                    with (self.inbox / name).open("r+b") as file:
                        file.write(b"EVIL")
        super().act(names)


class ExchangedFolder(HostileAgent):
    """Exchanges `inbox/tmp` with a link to a folder of the host's user, as fast as it can; fills it with its names."""

    def __init__(self, share: Path, state: Path) -> None:
        super().__init__(share, state)
        self.link = self.share / "link"
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self.share.parent / "victim")
        threading.Thread(target=self.exchange, daemon=True).start()

    def exchange(self) -> None:
        rename = ctypes.CDLL(None).renameat2
        here, there = os.fsencode(self.inbox / "tmp"), os.fsencode(self.link)
        while True:
            rename(AT_FDCWD, here, AT_FDCWD, there, RENAME_EXCHANGE)

    def attack(self) -> None:
        for name in os.listdir(self.share.parent / "victim"):
            with contextlib.suppress(OSError):
                (self.inbox / "tmp" / name).touch()


ATTACKS: dict[str, Callable[[Path, Path], HostileAgent]] = {
    "sparse artifacts": SparseArtifacts,
    "sparse artifacts of unknown attempts": UnknownSparseArtifacts,
    "results of unknown attempts": UnknownResults,
    "claims of unknown attempts": UnknownClaims,
    "many files": ManyFiles,
    "names of metrics": MetricNames,
    "extreme numbers": ExtremeNumbers,
    "removed start signals": RemovedSignals,
    "pipes in place of files": Pipes,
    "edited genomes": EditedGenomes,
    "exchanged folder": ExchangedFolder,
}

if __name__ == "__main__":
    minimal_agent.VERSION = sys.argv[4]
    ATTACKS[sys.argv[3]](Path(sys.argv[1]), Path(sys.argv[2])).run()
