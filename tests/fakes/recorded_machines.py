"""Machines that only record what is done with them."""

import threading

from hyperv_ops import Heartbeat, MachineError, MachineInfo, PowerState


class FakeMachines:
    """Machines that execute actions at once or when a test lets them; every call is recorded."""

    def __init__(self, *names: str) -> None:
        self.state = dict.fromkeys(names, PowerState.OFF)
        self.heartbeat = dict.fromkeys(names, Heartbeat.OK)
        self.done: list[tuple[str, str]] = []
        self.trouble: MachineError | None = None
        self.gate = threading.Event()  #: cleared: guests do not come up
        self.gate.set()
        self.booting = self.booting_max = 0
        self.stubborn = False
        self.closed = False
        self.memory_is_lost = False
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return list(self.state)

    def infos(self) -> dict[str, MachineInfo]:
        if self.trouble is not None:
            raise self.trouble
        return {name: self.info(name) for name in self.state}

    def info(self, name: str) -> MachineInfo:
        up = self.gate.is_set() or self.state[name] is not PowerState.RUNNING
        with self._lock:
            self.booting_max = max(self.booting_max, 0 if self.gate.is_set() else self._starting())
        return MachineInfo(
            name=name, state=self.state[name], heartbeat=self.heartbeat[name] if up else Heartbeat.NONE, uptime_s=7.0
        )

    def _starting(self) -> int:
        return sum(state is PowerState.RUNNING for state in self.state.values())

    def start(self, name: str) -> None:
        self.done.append(("start", name))
        self.state[name] = PowerState.RUNNING

    def save(self, name: str) -> None:
        self.done.append(("save", name))
        self.state[name] = PowerState.OFF

    def resume(self, name: str) -> None:
        self.done.append(("resume", name))
        if self.memory_is_lost:
            raise MachineError(name, "its memory is gone")
        self.state[name] = PowerState.RUNNING

    def shutdown(self, name: str, timeout_s: float) -> bool:
        self.done.append(("shutdown", name))
        self.state[name] = PowerState.RUNNING if self.stubborn else PowerState.OFF
        return not self.stubborn

    def power_off(self, name: str) -> None:
        self.done.append(("power_off", name))
        self.state[name] = PowerState.OFF

    def restart_agent(self, name: str) -> None:
        self.done.append(("restart_agent", name))

    def restore(self, name: str) -> None:
        self.done.append(("restore", name))

    def screenshot(self, name: str) -> bytes | None:
        return b"a picture"

    def close(self) -> None:
        self.closed = True
