"""Builds the parts of a host from the configuration, each complete before the next one gets it.

Owns: which part knows which, and the order in which they are closed: the reverse of the order here.
"""

import os
from collections.abc import Callable, Mapping
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
from pipeline.host.evaluator_packing import SiteEvaluator
from pipeline.host.hooks import Hooks
from pipeline.host.membership import Membership
from pipeline.host.poll_schedule import Notifying, PollSchedule, WatchedFolder
from pipeline.host.ports import Ports, SystemClock
from pipeline.host.project_evaluator import ProjectEvaluator
from pipeline.host.site_workers import SiteWorkers
from pipeline.host.sites import open_sites
from pipeline.host.wakeups import Wakeups
from pipeline.host.worker_links import OpenShare, WorkerLinks
from pipeline.machines.connections import machine_hosts, smb_access
from pipeline.machines.controllers import MachineControllers
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
    machine_controllers: MachineControllers
    smb: dict[str, SmbFiles]  #: by worker
    shares: Mapping[str, ShareFiles]  #: by worker, those of `smb` included
    loop: ControlLoop
    folder_watcher: FolderWatcher
    membership: Membership
    evaluator: ProjectEvaluator

    @property
    def ending_workers(self) -> list[str]:
        """The workers whose agents end with the host."""
        return [*self.local_workers.names(), *self.membership.site_of]


def build(root: Path, config: Config, evaluator_folder: Path, stack: ExitStack, given: Sites | None) -> Parts:
    """Builds the parts of a host, with the sites given or configured; `stack` also closes them if a later one fails.

    Raises:
        InputError: the sites cannot be used.
        HostError: the state folder cannot be written.
        LedgerError: the ledger is damaged, or of another version.
    """
    paths, wakeups = ProjectPaths(root), Wakeups()
    ledger = stack.enter_context(closing(Ledger(paths.state)))
    live_status = LiveStatusFile(paths.state)
    stack.callback(live_status.remove)
    event_log = stack.enter_context(closing(EventLog(paths.state)))
    snapshots = Snapshots(paths.snapshots)
    hooks = stack.enter_context(closing(Hooks(config.hooks, root, config.without_secrets(os.environ))))
    local_workers = LocalWorkers(agents_of(config), paths, evaluator_folder, on_exit=wakeups.request_sweep)
    stack.callback(local_workers.close)
    machine_controllers = MachineControllers(machine_hosts(config, root), config, paths.evidence, wakeups.request_sweep)
    stack.callback(machine_controllers.close)
    folders = {**local_workers.shares, **{w.name: root / w.place for w in config.worker if w.unc is None}}
    smb = _smb_files(root, config, machine_controllers, wakeups)
    archive, deployments = Archive(paths, config.limits.set_aside_bytes_max), DeploymentStore(paths)
    archive.clear_incoming()
    room = ArtifactRoom(config.limits, (paths.state, paths.all_results))
    client = _client_maker(ledger.farm_id, paths, snapshots, deployments, room)
    sites = open_sites(config, given, paths, ledger, snapshots, deployments, room, wakeups)
    on_sites = [worker for site in stack.enter_context(closing(sites)).sites() for worker in site.workers]
    links = _worker_links(root, config, folders, client, smb, sites, wakeups)
    stack.callback(links.close)
    machines = _machine_pools(config, local_workers, machine_controllers, dict.fromkeys(on_sites, sites.pool()))
    ports = Ports(
        ledger=ledger,
        archive=archive,
        event_log=event_log,
        executor=links.executor,
        machines=machines,
        poll_schedule=links.poll_schedule,
        clock=SystemClock(),
    )
    farm = Farm(ledger.farm_id, [*config.worker_names(), *on_sites])
    loop = ControlLoop(farm, config.core_limits(), links.queues, ports, wakeups)
    site_evaluator = SiteEvaluator(root, config, evaluator_folder, on_sites)
    return Parts(
        wakeups=wakeups,
        ledger=ledger,
        live_status=live_status,
        snapshots=snapshots,
        archive=archive,
        deployments=deployments,
        hooks=hooks,
        local_workers=local_workers,
        machine_controllers=machine_controllers,
        smb=links.smb,
        shares=links.shares,
        loop=loop,
        folder_watcher=links.folder_watcher,
        membership=Membership(paths, config, loop, links, SiteWorkers(sites, loop, links, machines, site_evaluator)),
        evaluator=ProjectEvaluator(config, paths, evaluator_folder, deployments, site_evaluator),
    )


def _client_maker(
    farm_id: str, paths: ProjectPaths, snapshots: Snapshots, deployments: DeploymentStore, room: ArtifactRoom
) -> Callable[[str, ShareFiles], ExecuteRequest]:
    """What makes the executing end of a worker's share; all shares have one room for artifacts."""

    def client(name: str, files: ShareFiles) -> ExecuteRequest:
        incoming, archive = paths.incoming / name, deployments.archive
        return ShareClient(name, farm_id, files, incoming, snapshots.content, room, archive=archive).execute

    return client


def _worker_links(
    root: Path,
    config: Config,
    folders: Mapping[str, Path],
    client: Callable[[str, ShareFiles], ExecuteRequest],
    smb: dict[str, SmbFiles],
    sites: OpenSites,
    wakeups: Wakeups,
) -> WorkerLinks:
    shares: dict[str, OpenShare] = {**{name: LocalFiles(path) for name, path in folders.items()}, **smb}
    on_sites = {worker: site for site in sites.sites() for worker in site.workers}
    executes = {name: client(name, files) for name, files in shares.items()}
    executes |= {worker: site.execute for worker, site in on_sites.items()}
    remote = {w.name for w in config.worker} | on_sites.keys()
    depth = config.queue_depths() | dict.fromkeys(on_sites, sites.queue_depth())
    outboxes = {name: path / OUTBOX for name, path in folders.items()}
    folder_watcher = FolderWatcher(outboxes, wakeups.notify, suffixes=ANSWERS)
    by_path = {w.name: WatchedFolder(folder_watcher, w.name) for w in config.worker if w.unc is None}
    notifying: dict[str, Notifying] = {**smb, **by_path, **on_sites}
    return WorkerLinks(
        root=root,
        client=client,
        shares=shares,
        smb=smb,
        executor=ShareExecutor(executes, remote, wakeups.wake),
        folder_watcher=folder_watcher,
        poll_schedule=PollSchedule(notifying, config.limits.silence_limit_s),
        queues=Queues(depth=depth, local=frozenset(config.local_names())),
        wakeups=wakeups,
    )


def _machine_pools(
    config: Config,
    local_workers: LocalWorkers,
    machine_controllers: MachineControllers,
    of_sites: Mapping[str, MachinePool],
) -> MachinePools:
    pools: dict[str, MachinePool] = dict.fromkeys(config.local_names(), local_workers)
    return MachinePools({**pools, **of_sites, **machine_controllers.of_worker})


def _smb_files(
    root: Path, config: Config, machine_controllers: MachineControllers, wakeups: Wakeups
) -> dict[str, SmbFiles]:
    found = {}
    for worker in config.worker:
        if worker.unc is None:
            continue
        reports = partial(machine_controllers.addresses, worker.name)
        session = SmbSession(smb_access(config, worker, root, reports))
        found[worker.name] = SmbFiles(session, partial(wakeups.notify, worker.name))
    return found
