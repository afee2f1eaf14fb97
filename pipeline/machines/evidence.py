"""Saves what a restore wipes out."""

import time
from dataclasses import asdict
from pathlib import Path

import msgspec
import orjson

from hyperv_ops import MachineError, Machines
from pipeline.core.requests import MachineAction
from pipeline.paths import EVIDENCE_OF_MACHINE, EVIDENCE_OF_SCREEN, EVIDENCE_OF_WORKER


class MachineEvidence:
    """One folder for each restore, with what the host knew of the worker, the state of its machine and its screen."""

    def __init__(self, machines: Machines, folder: Path) -> None:
        self._machines, self._folder = machines, folder

    def save(self, machine: str, action: MachineAction) -> None:
        """Saves all of them before an action. Raises MachineError; what was saved until then is kept."""
        try:
            self._save(machine, action)
        except OSError as error:
            raise MachineError(machine, str(error)) from error

    def _save(self, machine: str, action: MachineAction) -> None:
        folder = self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{action.worker}"
        folder.mkdir(parents=True, exist_ok=True)
        known = msgspec.json.encode(action.evidence)
        (folder / EVIDENCE_OF_WORKER).write_bytes(msgspec.json.format(known, indent=2))
        info = asdict(self._machines.info(machine))
        (folder / EVIDENCE_OF_MACHINE).write_bytes(orjson.dumps(info, option=orjson.OPT_INDENT_2))
        if (screen := self._machines.screenshot(machine)) is not None:
            (folder / EVIDENCE_OF_SCREEN).write_bytes(screen)
