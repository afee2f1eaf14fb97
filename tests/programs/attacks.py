"""`python -m tests.programs.attacks [--seconds S] [ATTACK…]`: a hostile worker beside an honest one, and what it costs.

It has a hostile agent, or a relay on the way to its SMB server that attacks the host (needs Samba and root).

For each attack: how fast the honest worker is, as a part of its rate without one, the most memory that the host used,
what the attack left on the host's disk, and whether the host went on. Exit code 1 if one is beyond what
docs/threat-model.md promises. POSIX only.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.harness.farm_project import FarmProject, games
from tests.harness.hostile_agent import ATTACKS
from tests.harness.hostile_relay import SMB_ATTACKS
from tests.harness.samba import PASSWORD, exchange, worker_table
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually
from tests.programs.system_programs import SAMBA, missing

MIB = 1024 * 1024
RATE_MIN, MEMORY_MIB_MAX = 0.8, 200.0
ARTIFACT_MIB_MAX = 128  #: the budget of a worker in these runs
DISK_MIB_MAX = ARTIFACT_MIB_MAX + 72.0  #: with results that are set aside, logs and tables
GAME_S = 0.05
VICTIMS = 200  #: files in a folder of the host's user that no attack may reach


@dataclass(frozen=True)
class Measured:
    """One run."""

    rate: float  #: games of the honest worker per second
    memory_mib: float  #: of the host, at most
    disk_mib: float  #: of the project and the host's state, at the end
    is_intact: bool  #: the host ran until it was stopped, and nothing outside of the shares was touched
    output: str  #: of the host

    def failures(self, calm: "Measured") -> list[str]:
        """What is beyond the promises, compared with a run without an attack."""
        return [
            *(["too slow"] if self.rate < RATE_MIN * calm.rate else []),
            *(["too much memory"] if self.memory_mib > MEMORY_MIB_MAX else []),
            *(["too much disk"] if self.disk_mib - calm.disk_mib > DISK_MIB_MAX else []),
            *([] if self.is_intact else ["the host stopped, or files were touched"]),
        ]


def run(attack: str | None, seconds: float) -> Measured:
    """Plays for so long, with a hostile worker beside the honest one if an attack is given."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="attack-")))
        victim = folder / "victim"
        victim.mkdir()
        for number in range(VICTIMS):
            (victim / f"{number}.txt").write_text("kept")
        project = stack.enter_context(contextlib.closing(FarmProject(folder / "farm")))
        tables = [_table_of(folder, "honest")]
        if attack in SMB_ATTACKS:
            server = stack.enter_context(exchange("hostile"))
            relay = stack.enter_context(contextlib.closing(SMB_ATTACKS[attack](server.port)))
            tables.append(worker_table("hostile", relay.port))
            project.start_agent(server.shares["hostile"])
        elif attack:
            tables.append(_table_of(folder, "hostile"))
        project.configure(workers=0, extra="\n".join(tables), worker_artifact_bytes_max=ARTIFACT_MIB_MAX * MIB)
        project.add_genomes(games(int(200 * seconds), seconds=GAME_S))
        project.start_agent(folder / "honest")
        version = _version_of(folder / "honest")
        if attack in ATTACKS:
            project.adopt(_start_hostile(folder, attack, version))
        return _measure(project, folder, seconds)


def _table_of(folder: Path, worker: str) -> str:
    """Makes a share of this disk; returns its part of pipeline.toml."""
    (folder / worker).mkdir()
    return f"[[worker]]\nname = '{worker}'\nshare = '{folder / worker}'"


def _version_of(share: Path) -> str:
    heartbeat = share / "status/agent.json"

    def version() -> str:
        try:
            return str(json.loads(heartbeat.read_bytes()).get("evaluator") or "")
        except (OSError, ValueError):
            return ""

    assert eventually(version, 30)
    return version()


def _start_hostile(folder: Path, attack: str, version: str) -> "subprocess.Popen[bytes]":
    state = folder / "hostile-state"
    state.mkdir()
    hostile = subprocess.Popen(
        [sys.executable, "-m", "tests.harness.hostile_agent", str(folder / "hostile"), str(state), attack, version],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    psutil.Process(hostile.pid).nice(19)  # its own use of the processors is not what is measured
    return hostile


def _measure(project: FarmProject, folder: Path, seconds: float) -> Measured:
    with (folder / "output").open("wb") as output:
        host = project.start("run", "--gen", "1", stdout=output.fileno(), stderr=output.fileno())
        process, memory = psutil.Process(host.pid), 0
        attempts = folder / "honest/outbox"
        assert eventually(lambda: host.poll() is not None or any(attempts.glob("*.started.json")), 30)
        until = time.monotonic() + seconds
        while time.monotonic() < until and host.poll() is None:
            memory = max(memory, process.memory_info().rss)
            time.sleep(0.05)
        survived = host.poll() is None
        if survived:
            project.interrupt(host)
            host.wait(60)
    rows = project.attempts()
    played = sum(row["worker"] == "honest" and row["outcome"] == "completed" for row in rows)
    untouched = [path.read_text() for path in (folder / "victim").iterdir()] == ["kept"] * VICTIMS
    disk = sum(_blocks(folder / "farm" / name) for name in ("state", "results"))
    text = (folder / "output").read_text(errors="replace")
    return Measured(played / seconds, memory / MIB, disk / MIB, survived and untouched, text)


def _blocks(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def main() -> int:
    """Runs the attacks one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.attacks", description=__doc__)
    every = (*ATTACKS, *SMB_ATTACKS)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(every)}; by default all")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each run")
    parser.add_argument("--output", action="store_true", help="show the host's last lines, too")
    args = parser.parse_args()
    os.environ["FARM_SECRET"] = PASSWORD  # of the SMB shares
    calm, failed = run(None, args.seconds), False
    print(f"{'attack':38} {'rate':>6} {'memory':>9} {'disk':>9}")
    print(f"{'none':38} {'100 %':>6} {calm.memory_mib:5.0f} MiB {calm.disk_mib:5.0f} MiB")
    lacking = missing(*SAMBA, root=True)
    for attack in args.attacks or every:
        if lacking and attack in SMB_ATTACKS:
            print(f"{attack:38} not played: needs {lacking}")
            continue
        found = run(attack, args.seconds)
        failures = found.failures(calm)
        failed |= bool(failures)
        print(
            f"{attack:38} {100 * found.rate / calm.rate:4.0f} % {found.memory_mib:5.0f} MiB {found.disk_mib:5.0f} MiB  "
            + (", ".join(failures) or "held"),
            flush=True,
        )
        if args.output:
            print("\n".join(f"    {line}" for line in found.output.splitlines()[-8:]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
