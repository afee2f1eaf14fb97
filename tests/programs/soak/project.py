"""The project of the soak: `pipeline watch` with local workers and, where Samba is installed, one behind its share."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.harness.samba import PASSWORD, Samba, exchange, give_to_account, worker_table
from tests.harness.watched_project import WatchedProject
from tests.programs.soak import game
from tests.programs.system_programs import SAMBA, missing

LOCAL_WORKERS, SMB_WORKER = 3, "smb-0"
TIME_LIMIT_S = 4.0
_EDITION = re.compile(r"^EDITION = (\d+)$", re.MULTILINE)


class SoakProject(WatchedProject):
    """A project whose evaluator is changed while it is watched."""

    def __init__(self, root: Path, server: Samba | None) -> None:
        super().__init__(root)
        self._log = root.parent.parent / "watch.txt"  # not on the disk that is filled
        self.server = server
        self.edition = game.EDITION
        self.watch_process: subprocess.Popen[bytes] | None = None
        shares = worker_table(SMB_WORKER, server.port) if server is not None else ""
        # High limits, so that only genomes that are meant to fail do; short times, so that each fault is over soon.
        self.configure(
            workers=LOCAL_WORKERS,
            time_limit_s=TIME_LIMIT_S,
            attempts_max=6,
            failures_max=3,
            losses_max=10,
            losses_per_trial_max=50,
            claim_limit_s=10.0,
            grace_s=4.0,
            extra=shares,
        )
        path = self.root / "pipeline.toml"
        path.write_text(path.read_text().replace("[generation]\n", '[generation]\nkeep = "results"\n'))
        self._write_game()
        if server is not None:
            self.start_smb_agent()
            self.deploy()

    # -------------------------------------------------------------------------------------------------------- processes

    def start_watch(self) -> None:
        """As a user starts it; returns when it handles SIGTERM, which before ends a Python process at once."""
        before = len(self.lines("watching"))
        self.watch_process = self.watch()
        self.wait_until(lambda: len(self.lines("watching")) > before or not self.is_watched, every_s=0.05)

    def stop_watch(self) -> None:
        """SIGTERM; it must end with exit code 0."""
        assert self.watch_process is not None
        code = self.stop(self.watch_process)
        assert code == 0, f"the stopped watch ended with exit code {code}: {self.output[-500:]}"

    @property
    def is_watched(self) -> bool:
        """Whether the watch still runs."""
        return self.watch_process is not None and self.watch_process.poll() is None

    def start_smb_agent(self) -> None:
        """Starts the agent behind the share, or starts it once more. It has no evaluator but the deployed one."""
        assert self.server is not None
        self.smb_agent = self.start_agent(self.server.shares[SMB_WORKER], accept_evaluators=True)

    # ---------------------------------------------------------------------------------------------------------- content

    def fitness(self, genome: bytes, seed: int) -> float:
        return game.fitness_of(genome, seed)

    def edit_evaluator(self) -> None:
        """Edits the game's file; no generation may be unfinished."""
        self.edition += 1
        self._write_game()

    def deploy(self) -> bool:
        """Runs `pipeline deploy`; returns whether the deployment is noted. The disk may be full, or the host killed."""
        code, out = self.run("deploy", "--wait", "2")
        assert code in (0, 1, 2, 3), out  # 1: a worker does not have it yet
        return code in (0, 1)

    @property
    def workers(self) -> set[str]:
        """The names of all."""
        local = {f"local-{number}" for number in range(LOCAL_WORKERS)}
        return local if self.server is None else local | {SMB_WORKER}

    def _write_game(self) -> None:
        """Replaces the file as editors do: at no moment is it incomplete."""
        text = Path(game.__file__).read_text(encoding="utf-8")
        draft = self.root / ".game.py"
        draft.write_text(_EDITION.sub(f"EDITION = {self.edition}", text), encoding="utf-8")
        os.replace(draft, self.root / "game.py")

    # ------------------------------------------------------------------------------------------------------------- disk

    def disk_use(self) -> tuple[int, int]:
        """The bytes that retention limits, and those that stay by design: ledger, tables, a log of at most 60 MiB."""
        limited = kept = 0
        for folder in self._disk_folders():
            for place, _folders, names in os.walk(folder):
                for name in names:
                    with suppress(OSError):  # removed meanwhile
                        size = os.lstat(os.path.join(place, name)).st_blocks * 512
                        if name.startswith(("ledger.db", "pipeline.jsonl")) or name in _TABLES:
                            kept += size
                        else:
                            limited += size
        return limited, kept

    def _disk_folders(self) -> list[Path]:
        own = [self.root / "results", self.root / "state"]
        return own if self.server is None else [*own, self.server.shares[SMB_WORKER]]


_TABLES = {"results.csv", "attempts.csv", "summary.json", "pruned.json"}


@contextmanager
def soak_project(folder: Path, disk_mib: int) -> Iterator[SoakProject]:
    """The project, on a small disk of its own if this user may mount one, and with Samba if it can be started."""
    disk = folder / "disk"
    disk.mkdir()
    with ExitStack() as stack:
        options = ["-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs"]
        if not missing("mount", root=True) and not subprocess.run(["mount", *options, disk], check=False).returncode:
            stack.callback(_unmount, disk)
        server = None
        if not missing(*SAMBA, root=True):
            server = stack.enter_context(exchange(SMB_WORKER))
            os.environ["FARM_SECRET"] = PASSWORD
            give_to_account(server.shares[SMB_WORKER])
        project = SoakProject(disk / "farm", server)
        stack.callback(project.close)
        yield project


def _unmount(disk: Path) -> None:
    subprocess.run(["umount", "--lazy", disk], check=True)


def is_own_disk(project: SoakProject) -> bool:
    """Whether the project has a disk that may be filled."""
    return os.path.ismount(project.root.parent)
