"""Builds the parts of a host from the configuration, each complete before the next one gets it.

Owns: which part knows which, and the order in which they are closed: the reverse of the order here.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inbox_agent.protocol.files import ShareFiles
from inbox_agent.protocol.layout import ANSWERS, OUTBOX
from inbox_agent.protocol.local_files import LocalFiles
from inbox_agent.system.folder_watcher import FolderWatcher
from pipeline.config import Config
from pipeline.core.farm import Farm
from pipeline.core.queues import Queues
from pipeline.host.control_loop import ControlLoop
from pipeline.host.hooks import Hooks
from pipeline.host.poll_schedule import Notifying, PollSchedule, WatchedFolder
from pipeline.host.ports import Ports, SystemClock
from pipeline.host.sites import open_sites
from pipeline.host.wakeups import Wakeups
from pipeline.machines.boot_queue import BootQueue
from pipeline.machines.connections import machines_of, smb_access
from pipeline.machines.controller import WATCH_INTERVAL_S, MachineController
from pipeline.machines.evidence import MachineEvidence
from pipeline.machines.local_workers import LocalWorkers, agents_of
from pipeline.machines.pools import MachinePool, MachinePools
from pipeline.machines.sites.interface import OpenSites, Sites
from pipeline.paths import ProjectPaths
from pipeline.shares.artifact_room import ArtifactRoom
from pipeline.shares.executor import ShareExecutor
from pipeline.shares.share_client import ExecuteRequest, ShareClient
from pipeline.shares.smb.files import SmbFiles
from pipeline.shares.smb.session import SmbSession
from pipeline.storage.archive import Archive
from pipeline.storage.deployment_store import DeploymentStore
from pipeline.storage.event_log import EventLog
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from pipeline.storage.snapshots import Snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a host."""

    wakeups: Wakeups
    ledger: Ledger
    live_status: LiveStatusFile
    snapshots: Snapshots
    archive: Archive
    deployments: DeploymentStore
    hooks: Hooks
    local_workers: LocalWorkers
    machine_controller: MachineController | None
    smb: dict[str, SmbFiles]  #: by worker
    shares: dict[str, ShareFiles]  #: by worker, those of `smb` included
    loop: ControlLoop
    folder_watcher: FolderWatcher
    on_sites: tuple[str, ...]  #: the workers on sites
    worker_names: list[str]  #: of all workers


def build(root: Path, config: Config, evaluator_folder: Path, stack: ExitStack, given: Sites | None) -> Parts:
    """Builds the parts of a host, with the sites that are given or configured; `stack` closes those that are complete,
    also if a later one fails.

    Raises:
        InputError: the sites cannot be used.
        HostError: the state folder cannot be written.
        LedgerError: the ledger is damaged, or of another version.
    """
    paths, wakeups = ProjectPaths(root), Wakeups()
    ledger = stack.enter_context(closing(Ledger(paths.state)))
    stack.callback((live_status := LiveStatusFile(paths.state)).remove)
    event_log = stack.enter_context(closing(EventLog(paths.state)))
    snapshots = Snapshots(paths.snapshots)
    hooks = stack.enter_context(closing(Hooks(config.hooks, root, config.without_secrets(os.environ))))
    local_workers = LocalWorkers(agents_of(config), paths, evaluator_folder, on_exit=wakeups.request_sweep)
    stack.callback(local_workers.close)
    machine_controller = _machine_controller(root, config, wakeups, stack)
    folders = {**local_workers.shares, **{w.name: root / w.place for w in config.worker if w.unc is None}}
    smb = _smb_files(root, config, machine_controller, wakeups)
    shares = _open_shares(folders, smb, stack)
    archive, deployments = Archive(paths, config.limits.set_aside_bytes_max), DeploymentStore(paths)
    archive.clear_incoming()
    room = ArtifactRoom(config.limits, (paths.state, paths.all_results))
    executes = _execute_requests(ledger.farm_id, paths, shares, snapshots, deployments, room)
    sites = open_sites(config, given, paths, ledger.farm_id, snapshots, deployments, room)
    on_sites = stack.enter_context(closing(sites)).workers()
    remote = {w.name for w in config.worker} | on_sites.keys()
    executor = stack.enter_context(closing(ShareExecutor({**executes, **on_sites}, remote, wakeups.wake)))
    folder_watcher = stack.enter_context(closing(_folder_watcher(folders, wakeups)))
    notifying = {**smb, **_watched_folders(config, folder_watcher), **sites.statuses()}
    ports = Ports(
        ledger=ledger,
        archive=archive,
        event_log=event_log,
        executor=executor,
        machines=_machine_pools(config, local_workers, machine_controller, dict.fromkeys(on_sites, sites.pool())),
        poll_schedule=PollSchedule(notifying, config.limits.silence_limit_s),
        clock=SystemClock(),
    )
    names = [*config.worker_names(), *on_sites]
    loop = ControlLoop(Farm(ledger.farm_id, names), config.core_limits(), _queues(config, sites), ports, wakeups)
    sites.listen(wakeups)
    return Parts(
        wakeups=wakeups,
        ledger=ledger,
        live_status=live_status,
        snapshots=snapshots,
        archive=archive,
        deployments=deployments,
        hooks=hooks,
        local_workers=local_workers,
        machine_controller=machine_controller,
        smb=smb,
        shares=shares,
        loop=loop,
        folder_watcher=folder_watcher,
        on_sites=tuple(on_sites),
        worker_names=names,
    )


def _queues(config: Config, sites: OpenSites) -> Queues:
    depth = config.queue_depths() | dict.fromkeys(sites.workers(), sites.queue_depth())
    return Queues(depth=depth, local=frozenset(config.local_names()))


def _folder_watcher(folders: Mapping[str, Path], wakeups: Wakeups) -> FolderWatcher:
    outboxes = {name: path / OUTBOX for name, path in folders.items()}
    return FolderWatcher(outboxes, wakeups.notify, suffixes=ANSWERS)


def _watched_folders(config: Config, folder_watcher: FolderWatcher) -> dict[str, Notifying]:
    return {w.name: WatchedFolder(folder_watcher, w.name) for w in config.worker if w.unc is None}


def _open_shares(folders: Mapping[str, Path], smb: Mapping[str, SmbFiles], stack: ExitStack) -> dict[str, ShareFiles]:
    local = {name: LocalFiles(path) for name, path in folders.items()}
    for close in [files.close for files in smb.values()] + [files.close for files in local.values()]:
        stack.callback(close)
    return {**local, **smb}


def _machine_controller(root: Path, config: Config, wakeups: Wakeups, stack: ExitStack) -> MachineController | None:
    machines, table = machines_of(config, root), config.machine_table()
    if machines is None or table is None:
        return None
    boot_queue = BootQueue(
        machines,
        booting_max=table.booting_max,
        stagger_s=table.stagger_s,
        boot_limit_s=config.limits.boot_limit_s,
    )
    controller = MachineController(
        machines,
        config.machine_of(),
        boot_queue,
        MachineEvidence(machines, ProjectPaths(root).evidence),
        wakeups.request_sweep,
        watch_interval_s=min(WATCH_INTERVAL_S, config.limits.silence_limit_s / 6),
        saves=table.idle_action == "save",
    )
    stack.callback(controller.close)
    return controller


def _machine_pools(
    config: Config,
    local_workers: LocalWorkers,
    machine_controller: MachineController | None,
    of_sites: Mapping[str, MachinePool],
) -> MachinePools:
    pools = {**dict.fromkeys(config.local_names(), local_workers), **of_sites}
    if machine_controller is not None:
        pools |= dict.fromkeys(config.machine_of(), machine_controller)
    return MachinePools(pools)


def _execute_requests(
    farm_id: str,
    paths: ProjectPaths,
    shares: Mapping[str, ShareFiles],
    snapshots: Snapshots,
    deployments: DeploymentStore,
    room: ArtifactRoom,
) -> dict[str, ExecuteRequest]:
    return {
        name: ShareClient(
            name, farm_id, files, paths.incoming / name, snapshots.content, room, archive=deployments.archive
        ).execute
        for name, files in shares.items()
    }


def _smb_files(
    root: Path, config: Config, machine_controller: MachineController | None, wakeups: Wakeups
) -> dict[str, SmbFiles]:
    found = {}
    for worker in config.worker:
        if worker.unc is None:
            continue
        reports = None if machine_controller is None else partial(machine_controller.addresses, worker.name)
        session = SmbSession(smb_access(config, worker, root, reports))
        found[worker.name] = SmbFiles(session, partial(wakeups.notify, worker.name))
    return found
