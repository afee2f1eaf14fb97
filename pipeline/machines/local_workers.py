"""Local workers: agents as processes of this computer, run by `hyperv_ops.LocalMachines`.

Owns: which calls a recovery action makes. Not here: when it is due (`core.recovery`).
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson

from hyperv_ops import ErrorBoundary, LocalMachines, LocalSpec, MachineError, MachineInfo, PowerState
from inbox_agent.protocol.layout import INBOX, OUTBOX, STAGING, STATUS
from inbox_agent.system.atomic_file import replace_file
from inbox_agent.system.process_tree import PROCESSES_FILE, kill_leftovers
from pipeline.config import Config
from pipeline.core.facts import RecoveryAction
from pipeline.core.observation import MachineState, MachineStatus
from pipeline.core.requests import MachineAction
from pipeline.errors import disk_errors
from pipeline.paths import ProjectPaths

log = logging.getLogger(__name__)

LOCAL_ACTIONS = (RecoveryAction.RESTART_AGENT, RecoveryAction.RESTORE)
_STATES = {
    PowerState.RUNNING: MachineState.RUNNING,
    PowerState.OFF: MachineState.OFF,
    PowerState.UNKNOWN: MachineState.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentProcesses:
    """Which agents are run, and with what."""

    names: Sequence[str]  #: of their workers
    settings: Mapping[str, object]  #: the content of their settings file
    environment: Mapping[str, str]  #: of the agents: without the host's secrets, so that no game can inherit them
    beat_s: float
    options: Sequence[str] = ()  #: further arguments


def agents_of(config: Config) -> AgentProcesses:
    """The agents of the local workers."""
    return AgentProcesses(
        names=config.local_names(),
        settings={"evaluator": msgspec.to_builtins(config.evaluator)},
        environment=config.without_secrets(os.environ),
        beat_s=config.limits.silence_limit_s / 6,
    )


class LocalWorkers:
    """The local agents, each with a share in the state folder."""

    def __init__(self, agents: AgentProcesses, paths: ProjectPaths, folder: Path, on_exit: Callable[[], None]) -> None:
        """`folder` has the evaluator's files; `on_exit` is called from a thread when an agent has ended."""
        names = agents.names
        self._agents, self._paths, self._folder = agents, paths, folder
        self.shares: Mapping[str, Path] = {name: paths.share(name) for name in names}
        self._machines = LocalMachines({name: self._spec(name, n) for n, name in enumerate(names)}, on_exit)
        self._boundary = ErrorBoundary()
        self._reverted: set[str] = set()

    def names(self) -> list[str]:
        """The local workers' names."""
        return list(self.shares)

    def pid(self, name: str) -> int | None:
        """The process id of a worker's agent; None while it does not run."""
        return self._machines.info(name).pid

    def log_path(self, name: str) -> Path:
        """The path of the agent's own log."""
        return self._paths.agent_log(name)

    def status(self) -> dict[str, MachineStatus]:
        """The state of all local machines."""
        found = {}
        for name, info in self._infos().items():
            state = _STATES.get(info.state, MachineState.UNKNOWN)
            found[name] = MachineStatus(state, LOCAL_ACTIONS, info.note, reverted=name in self._reverted)
            self._reverted.discard(name)
        return found

    def _infos(self) -> dict[str, MachineInfo]:
        try:
            return self._boundary.infos(self._machines)
        except MachineError as error:
            return {name: MachineInfo(name=name, state=PowerState.UNKNOWN, note=error.reason) for name in self.shares}

    def execute(self, action: MachineAction) -> None:
        """Performs an action. An error shows in the next `status`."""
        name = action.worker
        try:
            with self._boundary.around(name):
                if action.recovery is RecoveryAction.RESTORE:
                    self._machines.restore(name)
                    self._reverted.add(name)
                elif action.recovery is not None:
                    self._machines.power_off(name)
                self._machines.start(name)
                log.info("%s: %s, process %s", name, action.recovery or "start", self.pid(name))
        except MachineError as error:
            log.warning("%s", error)

    def prepare(self) -> None:
        """Creates what agents need before they run: the shares' top folders, which can be scanned then, and settings.

        Raises:
            HostError: the disk refuses.
        """
        settings = orjson.dumps(self._agents.settings)
        for name, share in self.shares.items():
            with disk_errors(share):
                share.mkdir(parents=True, exist_ok=True)
            with disk_errors(path := self._paths.agent_settings(name)):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, settings)

    def close(self) -> None:
        """Ends all agents, and processes that a killed agent left running."""
        try:
            with self._boundary.around("local workers"):
                self._machines.close()
        except MachineError as error:  # a process that cannot be killed, e.g. while its disk hangs
            log.warning("%s", error)
        for name in self.shares:
            kill_leftovers(self._paths.agent_state(name) / PROCESSES_FILE)

    def _spec(self, name: str, number: int) -> LocalSpec:
        own = self._paths.agent_state(name)
        share = self.shares[name]
        # -P: a user's file must not shadow a module of the standard library in the agent.
        argv = [sys.executable, "-P", "-m", "inbox_agent", "--share", str(share), "--state", str(own)]
        argv += ["--config", str(self._paths.agent_settings(name)), "--folder", str(self._folder)]
        argv += ["--worker", str(number), "--workers", str(len(self._agents.names))]
        argv += ["--leave-with-parent", "--beat", f"{self._agents.beat_s:g}", *self._agents.options]
        return LocalSpec(
            argv=argv,
            disk=share,
            folders=(f"{INBOX}/{STAGING}", f"{OUTBOX}/{STAGING}", STATUS),
            log=self.log_path(name),
            cwd=self._folder,
            env=self._agents.environment,
        )
