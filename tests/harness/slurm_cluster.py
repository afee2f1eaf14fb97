"""A Slurm cluster of one node on this computer, with its own munge; everything is in one folder."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.harness.waiting import eventually
from tests.programs.system_programs import SLURM, find, require

#: Only what one node without MPI needs. `NodeName` is written below it.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={port}
SlurmdPort={node_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
KillWait=20
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 {node} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=FORCE:8 State=UP
"""


class SlurmCluster:
    """The commands of a running cluster."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def submit(self, folder: Path, script: Path, *options: str, **variables: str) -> str:
        """Submits a batch script from a folder; returns the number of the job."""
        exports = ",".join(["ALL", *(f"{name}={value}" for name, value in variables.items())])
        return self._run("sbatch", "--parsable", f"--export={exports}", *options, str(script), folder=folder).strip()

    def cancel(self, job: str) -> None:
        """Cancels a job, or one task of an array."""
        self._run("scancel", job)

    def jobs(self) -> list[str]:
        """The jobs and tasks that have not ended."""
        return self._run("squeue", "--noheader", "--format=%i").split()

    def _run(self, *words: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            words, cwd=folder, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A cluster that runs until the block ends. Skips the test if its programs are missing."""
    require(*SLURM, root=True)
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True, mode=0o700)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    node = subprocess.run([_path("slurmd"), "-C"], capture_output=True, text=True, check=True).stdout.split()
    hardware = " ".join(word for word in node if word.partition("=")[0] in ("CPUs", "RealMemory", "Boards"))
    text = CONFIGURATION.format(host=host, folder=folder, port=_port(), node_port=_port(), node=hardware)
    (folder / "slurm.conf").write_text(text)
    cluster = SlurmCluster(folder)
    places = ("key-file", "socket", "pid-file", "log-file", "seed-file")
    munge = [f"--{place}={folder}/munge/{place.partition('-')[0]}" for place in places]
    daemons = [
        _start(cluster, _path("munged"), "--foreground", "--force", *munge),
        _start(cluster, _path("slurmctld"), "-D", "-c"),
        _start(cluster, _path("slurmd"), "-D", "-c"),
    ]
    try:
        assert eventually(lambda: _is_up(cluster), every_s=0.2), (folder / "slurmctld.log").read_text()
        yield cluster
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()


def _is_up(cluster: SlurmCluster) -> bool:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%t"], env=cluster.environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() in ("idle", "mix", "alloc")


def _start(cluster: SlurmCluster, *words: str) -> "subprocess.Popen[bytes]":
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, env=cluster.environment, stdin=quiet, stdout=quiet, stderr=quiet)


def _path(program: str) -> str:
    path = find(program)
    assert path is not None
    return path


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
