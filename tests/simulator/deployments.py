"""Deployments in the simulator: the shipped intake of the agent, on a machine whose evaluators are versions in memory.

The archive of an evaluator is the name of its version.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inbox_agent.deployments import DeployedEvaluators, DeploymentRefused
from inbox_agent.protocol.deployment import DeployRecord
from inbox_agent.settings import EvaluatorTable
from pipeline.core.deployment import Deployment, Deployments
from tests.simulator.evaluator import version_of
from tests.simulator.world import Options

if TYPE_CHECKING:
    from tests.simulator.machine import SimulatedMachine

ARCHIVE = Path("/state/archive.zip")
LATER_VERSION = "deployed-later"
_ARCHIVES: dict[str, bytes] = {}  #: by digest: of every version that was ever deployed in this process


def deployments_of(options: Options, generation: int, *, host_restarted: bool) -> Deployments:
    """The evaluators that were deployed so far.

    Another one is deployed while a generation is played; a host that is started again reads it, and the generation must
    keep its own nevertheless.
    """
    versions = [version_of(options, number) for number in range(1, generation + 1)]
    versions += [LATER_VERSION] if host_restarted else []
    return Deployments([_deployment(number, version) for number, version in enumerate(versions, 1)])


def archive_of(sha256: str) -> bytes:
    """The archive with this digest."""
    return _ARCHIVES[sha256]


def _deployment(number: int, version: str) -> Deployment:
    archive = version.encode()
    digest = hashlib.sha256(archive).hexdigest()
    _ARCHIVES[digest] = archive
    return Deployment(
        number=number,
        evaluator=version,
        archive_bytes=len(archive),
        archive_sha256=digest,
        python="game:play",
    )


class SimulatedDeployedEvaluators(DeployedEvaluators):
    """The deployed evaluators of a machine. A checkpoint of the machine has them; one of its share has not."""

    def __init__(self, machine: "SimulatedMachine") -> None:
        super().__init__(Path("/state"), EvaluatorTable())
        self._machine = machine

    def current(self) -> DeployRecord | None:
        return self._machine.deployed

    def install(self, record: DeployRecord, fetch: Callable[[Path], str]) -> None:
        if fetch(ARCHIVE) != record.archive_sha256:
            raise DeploymentRefused("its archive is incomplete or damaged")
        self._machine.install(record)
