"""Samples the processes and the disk of a soak from a thread; the file of samples is complete at any moment."""

import csv
import http.client
import resource
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.programs.soak.project import SoakProject
from tests.programs.soak.samples import COLUMNS, Sample, write_samples

DISK_EVERY = 6  #: samples; it reads every folder
_MIB = 2**20
_SETTLED = "pipeline_trials_settled_total"


@dataclass
class _Use:
    mib: float = 0.0
    descriptors: int = 0
    threads: int = 0
    cpu_s: float = 0.0

    def add(self, process: psutil.Process) -> None:
        """Adds a process; one that has ended adds nothing."""
        with suppress(psutil.Error, OSError), process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return
            memory, descriptors = process.memory_full_info().pss, process.num_fds()
            threads, times = process.num_threads(), process.cpu_times()
            self.mib += memory / _MIB
            self.descriptors += descriptors
            self.threads += threads
            self.cpu_s += times.user + times.system + times.children_user + times.children_system


@dataclass
class Sampler:
    """Samples from a thread of its own and appends each one to a file."""

    project: SoakProject
    page: psutil.Process
    metrics_address: str
    path: Path
    every_s: float
    stopped: threading.Event = field(default_factory=threading.Event)
    samples: list[Sample] = field(default_factory=list)
    unanswered: int = 0  #: requests for the metrics
    problem: str = ""  #: why nothing more is sampled

    def run(self) -> None:
        """Samples until `stopped` is set."""
        try:
            self._sample()
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def _sample(self) -> None:
        began, cpu_s, at = time.monotonic(), self._cpu_s([]), time.monotonic()
        disk, settled = (0, 0), 0
        write_samples(self.path, [])
        while not self.stopped.wait(self.every_s):
            host, agents, servers = self._processes()
            uses = [_total(group) for group in (host, agents, [self.page], servers)]
            now, used_s = time.monotonic(), self._cpu_s(uses)
            if len(self.samples) % DISK_EVERY == 0:
                disk = self.project.disk_use()
            settled = self._settled(settled)
            of_host, of_agents, of_page, _servers = uses
            self._append(
                Sample(
                    round(now - began, 1),
                    host[0].pid if host else 0,
                    round(of_host.mib, 2),
                    of_host.descriptors,
                    of_host.threads,
                    sum(_is_agent(process) for process in agents),
                    round(of_agents.mib, 2),
                    of_agents.descriptors,
                    of_agents.threads,
                    round(of_page.mib, 2),
                    of_page.descriptors,
                    of_page.threads,
                    round(disk[0] / _MIB, 3),
                    round(disk[1] / _MIB, 3),
                    round(100 * max(0.0, used_s - cpu_s) / (now - at), 1),
                    settled,
                )
            )
            cpu_s, at = used_s, now

    def _append(self, sample: Sample) -> None:
        self.samples.append(sample)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow([getattr(sample, name) for name in COLUMNS])

    def _processes(self) -> tuple[list[psutil.Process], list[psutil.Process], list[psutil.Process]]:
        """The host; the agents and their games; the servers of the share."""
        host: list[psutil.Process] = []
        agents: list[psutil.Process] = []
        watch, server = self.project.watch_process, self.project.server
        if watch is not None and watch.poll() is None:
            with suppress(psutil.Error):
                host = [psutil.Process(watch.pid)]
                agents = host[0].children(recursive=True)
        if server is not None:
            with suppress(psutil.Error):
                agent = psutil.Process(self.project.smb_agent.pid)
                agents += [agent, *agent.children(recursive=True)]
        return host, agents, server._processes() if server is not None else []

    @staticmethod
    def _cpu_s(uses: "Sequence[_Use]") -> float:
        """Of the processes that are there and of all that have ended as descendants of this one.

        Orphans of a watch that was killed are not counted any more once they end.
        """
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + sum(use.cpu_s for use in uses)

    def _settled(self, before: int) -> int:
        """The trials that are settled by the metrics of the page; those of before if it does not answer."""
        try:
            with urllib.request.urlopen(self.metrics_address, timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except (OSError, http.client.HTTPException):
            self.unanswered += 1
            return before
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(_SETTLED))


def _total(processes: list[psutil.Process]) -> _Use:
    use = _Use()
    for process in processes:
        use.add(process)
    return use


def _is_agent(process: psutil.Process) -> bool:
    try:
        return "inbox_agent" in process.cmdline()
    except psutil.Error:
        return False
