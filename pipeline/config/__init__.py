"""The configuration file `pipeline.toml`, checked before anything else is done. Reads that file; otherwise pure.

Owns: what may be configured, and the defaults.
Not here: the tables `[generation]` (`generation_table`), `[limits]` (`core.limits`), `[evaluator]`
(`inbox_agent.settings`), and those of machines (`machine_tables`).
"""

import contextlib
import json
import math
import ntpath
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field, to_builtins

from hyperv_ops import MACHINE_NAME
from inbox_agent.protocol.layout import GENOME_BYTES_MAX as GENOME_BYTES_MAX
from inbox_agent.protocol.layout import SETTINGS_BYTES_MAX, VALUE_MAX, Settings
from inbox_agent.settings import EvaluatorTable, SettingsError, convert, read_settings
from pipeline.config.generation_table import LIMITS_OF_GENERATION, GenerationTable
from pipeline.config.machine_tables import (
    ConfigTable,
    HyperVTable,
    MachinePath,
    QemuTable,
    Secret,
    check_hosts,
    check_machine,
    check_secret,
    hyperv_title,
)
from pipeline.config.sites_table import SitesTable
from pipeline.config.worker_descriptions import description_files, read_description
from pipeline.core.facts import Reuse as Reuse
from pipeline.core.facts import RunSettings
from pipeline.core.facts import Seeds as Seeds
from pipeline.core.limits import Limits
from pipeline.core.retention import Keep as Keep
from pipeline.core.workers import WORKER_NAME
from pipeline.errors import ConfigError
from pipeline.paths import ProjectPaths

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: limits of the core that are set in another table than `[limits]`
SET_ELSEWHERE = (*LIMITS_OF_GENERATION, "load_limit_s", "idle_after_s", "spare")

# Texts with a form. The checks below report it in words; `pipeline schema` tells editors.
_WorkerName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{WORKER_NAME.pattern}$"})]


class LocalTable(ConfigTable, frozen=True, kw_only=True):
    """`[local]`: workers that are processes on this computer."""

    #: unset: one per core, or none with a `[[worker]]` or `[sites]`
    workers: Annotated[int, Meta(ge=0, le=512)] | None = None
    #: attempts that a worker holds at least: one runs, the others wait; while games are short, as many as are played
    #: in 50 ms
    queue_depth: Annotated[int, Meta(ge=1, le=64)] = 2


class WorkerTable(ConfigTable, frozen=True, kw_only=True):
    """`[[worker]]`: a worker behind a share: an agent that you started, or one on a machine of this farm."""

    name: _WorkerName  #: its name in tables and messages: letters, digits, `-` and `_`, at most 63
    share: str = ""  #: a local path, or a UNC path, which is accessed over SMB; empty: `exchange` of its machine
    #: the virtual machine it runs on, at most 63 letters, digits, `-` and `_`, or `HOST/MACHINE` if there are tables
    #: `[hyperv.HOST]`; the machine's name as the server of the share means its address
    machine: MachinePath = ""
    #: attempts that the worker holds at least: one runs, the others wait; while games are short, as many as are played
    #: until the host can send more
    queue_depth: Annotated[int, Meta(ge=1, le=64)] = 2
    port: Annotated[int, Meta(ge=1, le=65535)] = 445  #: TCP port of the SMB server
    account: str = ""  #: `user`, `DOMAIN\user` or `user@domain`; empty: the user who runs the pipeline
    secret: Secret = ""  #: a reference to the account's password, never the password
    encryption: bool = True  #: refuse a server that does not encrypt
    dialect: Literal["3.1.1", "3.0.2", "3.0"] = "3.1.1"  #: refuse a server that speaks only older ones

    @property
    def machine_host(self) -> str:
        """The name of the host that has its machine; empty if it has none."""
        return self.machine.rpartition("/")[0]

    @property
    def machine_name(self) -> str:
        """The name of its machine on that host."""
        return self.machine.rpartition("/")[2]

    @property
    def place(self) -> str:
        """`share`, or the default share of its machine."""
        return self.share or (rf"\\{self.machine_name}\exchange" if self.machine else "")

    @property
    def is_on_machine(self) -> bool:
        """Whether the server of its share is its machine, which is reached at the address that it reports."""
        return bool(self.machine) and self.unc is not None and self.unc[0].lower() == self.machine_name.lower()

    @property
    def unc(self) -> tuple[str, str, str] | None:
        """Server, share and the folder below it, if `place` is a UNC path. Raises ValueError: its share is missing."""
        if not self.place.replace("\\", "/").startswith("//"):
            return None
        parts = [part for part in ntpath.normpath(self.place).split("\\") if part]
        if len(parts) < 2:
            raise ValueError(rf"worker {self.name!r}: share {self.share}: expected \\server\share")
        return parts[0], parts[1], "/".join(parts[2:])

    def __post_init__(self) -> None:
        for part in self.machine.split("/", 1) if self.machine else ():
            if not MACHINE_NAME.fullmatch(part):
                raise ValueError(f"worker {self.name!r}: machine {self.machine!r}: letters, digits, - and _ only")
        for_smb = [key for key in ("account", "secret") if getattr(self, key)]
        if self.unc is None and for_smb:
            raise ValueError(f"worker {self.name!r}: {for_smb[0]} is for a UNC share; {self.share} is reached by path")
        check_secret(f"worker {self.name!r}", self.secret)


def _variable(name: str) -> str:
    """The name of an environment variable, as the system compares it."""
    return name.upper() if os.name == "nt" else name


class HooksTable(ConfigTable, frozen=True, kw_only=True):
    """`[hooks]`: a program that is started when something happens that you may want to know at once."""

    command: list[str] = field(
        default_factory=list
    )  #: `{event}` stands for finished, quarantined, out, stuck or silent
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0  #: then the program is killed
    #: `silent` if no result has come for so long while trials are open; longer than your longest game
    silent_after_s: Annotated[float, Meta(gt=0, le=604800)] | None = None

    def __post_init__(self) -> None:
        for name in (name for part in self.command for name in _PLACEHOLDER.findall(part)):
            if name != "event":
                raise ValueError(f"[hooks] command: {{{name}}} is no placeholder; there is {{event}}")
        if self.silent_after_s is not None and not self.command:
            raise ValueError("[hooks] silent_after_s needs a command, which is started then")


class Config(ConfigTable, frozen=True, kw_only=True):
    """The whole configuration."""

    generation: GenerationTable = GenerationTable()
    settings: Settings = field(default_factory=dict)
    evaluator: EvaluatorTable = EvaluatorTable()
    local: LocalTable = LocalTable()
    worker: list[WorkerTable] = field(default_factory=list)
    sites: SitesTable | None = None
    hyperv: dict[str, HyperVTable] | None = None
    qemu: QemuTable | None = None
    hooks: HooksTable = HooksTable()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for name, value in (*self.settings.items(), ("timed_out_fitness", self.generation.timed_out_fitness)):
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; a finite number is needed")
        if abs(self.generation.timed_out_fitness or 0.0) > VALUE_MAX:
            raise ValueError(f"timed_out_fitness: at most {VALUE_MAX:g} of either sign, as for any fitness")
        for name in LIMITS_OF_GENERATION:
            if getattr(self.limits, name) != getattr(Limits(), name):
                raise ValueError(f"[limits] {name}: it stands under [generation]")
        if self.limits.load_limit_s != Limits().load_limit_s:
            raise ValueError("[limits] load_limit_s: it stands under [evaluator]")
        for name in ("idle_after_s", "spare"):
            if getattr(self.limits, name) != getattr(Limits(), name):
                raise ValueError(f"[limits] {name}: it stands under [hyperv] or [qemu]")
        if len(json.dumps(self.settings)) > SETTINGS_BYTES_MAX:
            raise ValueError(f"[settings] is larger than {SETTINGS_BYTES_MAX} bytes; put the data into a file")
        for worker in self.worker:
            if not worker.place.strip():
                raise ValueError(f"worker {worker.name!r} has no share; give the path of its folder")
            if not WORKER_NAME.fullmatch(worker.name):
                raise ValueError(f"worker name {worker.name!r}: letters, digits, - and _ only, at most 63")
        names = self.worker_names()
        for name in names:
            if [other.lower() for other in names].count(name.lower()) > 1:
                raise ValueError(f"two workers are named {name!r}; names differ by more than case")
        shares: dict[str, str] = {}
        for worker in self.worker:
            key = _share_key(worker.place, worker.machine_host if worker.is_on_machine else "")
            same = shares.setdefault(key, worker.name)
            if same != worker.name:
                raise ValueError(f"workers {same!r} and {worker.name!r} have the same share {worker.place}")
        self._check_machines()

    def _check_machines(self) -> None:
        if self.hyperv is not None and self.qemu is not None:
            raise ValueError("[hyperv] and [qemu]: a farm's machines are of one kind; take one of the tables out")
        check_hosts(self.hyperv or {})
        on_machines = [worker for worker in self.worker if worker.machine]
        machines = [worker.machine.lower() for worker in on_machines]
        ports = [worker.port for worker in on_machines]
        for worker in on_machines:
            check_machine(worker.name, worker.machine, self.machine_tables())
            if machines.count(worker.machine.lower()) > 1:
                raise ValueError(f"two workers live on machine {worker.machine!r}; one agent per machine")
            if self.qemu is not None and ports.count(worker.port) > 1:
                raise ValueError(
                    f"worker {worker.name!r}: port {worker.port} is another's; each QEMU machine has its own"
                )
        spare = self._rest_table().spare
        if spare and spare >= len(machines):
            raise ValueError(f"spare = {spare}: of {len(machines)} machines at least one must play")

    def local_names(self) -> list[str]:
        """Names of the local workers."""
        count = self.local.workers
        if count is None:
            count = 0 if self.worker or self.sites else os.cpu_count() or 1
        return [f"local-{number}" for number in range(count)]

    def worker_names(self) -> list[str]:
        """Names of all workers."""
        return self.local_names() + [worker.name for worker in self.worker]

    def machine_tables(self) -> Mapping[str, HyperVTable | QemuTable]:
        """The tables of the machines' hosts by name, which is empty for the only one; empty without machines."""
        return self.hyperv or ({} if self.qemu is None else {"": self.qemu})

    def _rest_table(self) -> HyperVTable | QemuTable:
        """A table that says when machines are put to rest; all say the same."""
        return next(iter(self.machine_tables().values()), HyperVTable())

    @property
    def idle_after_s(self) -> float | None:
        """How long a machine is without work before it is put to rest; None: no machine is."""
        table = self._rest_table()
        return table.idle_after_s if self.machine_of() and table.idle_action != "none" else None

    def machine_of(self) -> dict[str, str]:
        """Worker -> its machine, as the worker's table names it, for workers that have one."""
        return {worker.name: worker.machine for worker in self.worker if worker.machine}

    def secrets(self) -> dict[str, str]:
        """Every secret reference that a run needs, by owner."""
        of_machines = self._secrets_of_hyperv() if self.machine_of() else {}
        return self._secrets_of_shares() | of_machines

    def without_secrets(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Environment variables for agents, games and hooks: all but those that a secret reference names."""
        references = [reference.partition(":") for reference in self._all_secrets()]
        secret = {_variable(name) for kind, _colon, name in references if kind == "env"}
        return {name: value for name, value in environment.items() if _variable(name) not in secret}

    def _all_secrets(self) -> list[str]:
        """Every secret reference, whether a run needs it or not."""
        return [*self._secrets_of_shares().values(), *self._secrets_of_hyperv().values()]

    def _secrets_of_shares(self) -> dict[str, str]:
        return {f"worker {worker.name!r}": worker.secret for worker in self.worker if worker.secret}

    def _secrets_of_hyperv(self) -> dict[str, str]:
        found = {
            f"{hyperv_title(host)} {key}": reference
            for host, table in (self.hyperv or {}).items()
            for key, reference in (("secret", table.secret), ("guest_secret", table.guest_secret))
        }
        return {whose: reference for whose, reference in found.items() if reference}

    def queue_depths(self) -> dict[str, int]:
        """Worker -> how many attempts it may hold."""
        depths = dict.fromkeys(self.local_names(), self.local.queue_depth)
        return depths | {worker.name: worker.queue_depth for worker in self.worker}

    @property
    def knows_evaluator(self) -> bool:
        """Whether the evaluator's files on this computer are those that the workers must play."""
        return bool(self.local_names() or self.sites or self.evaluator.version or self.evaluator.files)

    def run_settings(self, evaluator_version: str = "") -> RunSettings:
        """The settings that a fitness depends on; without a version, that of the first worker counts."""
        return RunSettings(
            trials_per_genome=self.generation.trials_per_genome,
            seed=self.generation.seed,
            settings=dict(sorted(self.settings.items())),
            evaluator=str(self.evaluator),
            time_limit_s=self.evaluator.time_limit_s,
            timed_out_fitness=self.generation.timed_out_fitness,
            evaluator_version=evaluator_version,
            allow_mixed_evaluators=self.generation.allow_mixed_evaluators,
            seeds=self.generation.seeds,
            reuse=self.generation.reuse,
        )

    def core_limits(self) -> Limits:
        """The limits of the core: `[limits]`, with those that stand in other tables."""
        values = {name: getattr(self.limits, name) for name in Limits.__struct_fields__}
        values |= {name: getattr(self.generation, name) for name in LIMITS_OF_GENERATION}
        values |= {"idle_after_s": self.idle_after_s, "spare": self._rest_table().spare}
        return Limits(**values | {"load_limit_s": self.evaluator.load_limit_s})


def load_config(root: Path, *, check: bool = True) -> Config:
    """The configuration of a project folder; without a file, the defaults. Raises ConfigError."""
    shown = str(root).encode("utf-8", "backslashreplace").decode()
    if shown != str(root):  # records and settings of workers are Unicode
        raise ConfigError(f"{shown}: broken Unicode in this path; rename the folder, or set a UTF-8 locale")
    path = ProjectPaths(root).config
    missing = _is_missing(path)
    if check and missing:
        raise ConfigError(f"{path}: there is none; `pipeline init` makes one, or give the project folder with --root")
    try:
        config = Config() if missing else read_settings(path, Config)
    except SettingsError as error:
        raise ConfigError(str(error)) from error
    described = description_files(ProjectPaths(root).workers)
    if described is not None:
        tables = []
        for path in described:
            with contextlib.suppress(FileNotFoundError):  # a pilot has just left
                tables.append(described_worker(path).table)
        config = with_described(config, tables, root)
    return checked(config, str(path), awaits_workers=described is not None) if check else config


class DescribedWorker(ConfigTable, frozen=True, kw_only=True):
    """A worker with a file of its own below `workers/`."""

    table: WorkerTable
    lease_s: Annotated[float, Meta(ge=10, le=7 * 86400)] | None = None  #: it is removed when it is silent for so long


def described_worker(path: Path, name: str = "") -> DescribedWorker:
    """The worker that a file describes; by default the file's name is the worker's.

    Raises ConfigError, and FileNotFoundError: it was removed meanwhile.
    """
    try:
        table = {"name": name or path.stem, **read_description(path)}
        lease = {"lease_s": table.pop("lease_s")} if "lease_s" in table else {}
        worker = convert(table, WorkerTable, str(path))
        return convert({"table": to_builtins(worker), **lease}, DescribedWorker, str(path))
    except SettingsError as error:
        raise ConfigError(str(error)) from error


def with_described(config: Config, described: Sequence[WorkerTable], root: Path) -> Config:
    """The configuration with these workers beside those of the file. Raises ConfigError: two do not go together."""
    places = {worker.name: worker.place if worker.unc else str(root / worker.place) for worker in config.worker}
    configured = {_share_key(place): name for name, place in places.items()}
    for worker in described:
        if (other := configured.get(_share_key(worker.place))) is not None:
            raise ConfigError(f"workers/: {worker.name!r} has the share of worker {other!r}, {worker.place}")
    local = to_builtins(config.local) | {"workers": config.local.workers or 0}
    return changed(config, {"local": local, "worker": [*config.worker, *described]}, "workers/")


def changed(config: Config, changes: Mapping[str, object], source: str) -> Config:
    """The configuration with tables replaced; checked like the file. Raises ConfigError."""
    try:
        # Converted from plain values: a table that is made directly raises its errors as ValueError.
        return convert({**to_builtins(config), **to_builtins(dict(changes))}, Config, source)
    except TypeError as error:  # from `to_builtins`: an object that no settings file could hold
        raise ConfigError(f"{source}: {error}") from error
    except SettingsError as error:
        raise ConfigError(str(error)) from error


def checked(config: Config, source: str, *, awaits_workers: bool = False) -> Config:
    """The configuration, checked to have a worker and an evaluator for local ones. Raises ConfigError.

    With `awaits_workers` there may be none yet.
    """
    if config.local_names() and not config.evaluator.is_playable:
        raise ConfigError(
            f"{source}: [evaluator] does not say what the local workers play; "
            "give `command` or `python` there, or run `pipeline init` for an example"
        )
    if not (config.worker_names() or config.sites or awaits_workers):
        raise ConfigError(f"{source}: no worker at all; set [local] workers, or add a [[worker]] or [sites]")
    return config


def _is_missing(path: Path) -> bool:
    """Whether the file does not exist. False on any other error: reading it will report that."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _share_key(share: str, host: str = "") -> str:
    """A key under which different spellings of one share are equal. `host`: that of the machine that is its server."""
    if share.replace("\\", "/").startswith("//"):
        return f"{host}{ntpath.normpath(share)}".lower()
    return os.path.normcase(os.path.realpath(share))
