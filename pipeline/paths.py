"""All paths of a project. No I/O.

    pipeline.toml
    pipeline.schema.json    which keys that file may have, for editors
    genomes/gen-0007/       a generation's genomes, put there by the user
    workers/vm-9.toml       a worker that joined later than those of pipeline.toml
    results/gen-0007/       its results
    results/report.html     the report of all generations; report-gen-0007.html of one
    state/                  of this host: ledger, lock, log, snapshots, local workers

Not here: the files of a share (`inbox_agent.protocol.layout`) and of an agent (`inbox_agent`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

_GENERATION = "gen-"
#: Matches the folders of generations below `genomes/` or `results/`, and maybe others.
GENERATION_GLOB = f"{_GENERATION}*"
#: A path, with `/` between its parts, that ends in the folder of a generation.
GENERATION_FOLDER = re.compile(rf"(?:.*/)?{_GENERATION}(\d{{1,9}})", re.ASCII)
#: The name of a folder with results that were moved aside, `gen-0007.before-1`.
EARLIER_RESULTS = re.compile(rf"{_GENERATION}(\d{{1,9}})\.before-\d{{1,9}}", re.ASCII)
#: What a user may write for a generation: `7`, `gen-7`, `genomes/gen-0007/`.
GENERATION_FORMS = re.compile(rf"(?:.*[/\\])?(?:{_GENERATION})?(\d{{1,9}})[/\\]?", re.ASCII)

CONFIG_FILE, SCHEMA_FILE = "pipeline.toml", "pipeline.schema.json"

# In `state/`:
LEDGER_FILE, LIVE_FILE = "ledger.db", "live.json"
LOG_FOLDER, LOG_FILE, AUDIT_FILE = "log", "pipeline.jsonl", "audit.jsonl"

# In the folder of evidence that is saved before a restore:
EVIDENCE_OF_WORKER, EVIDENCE_OF_MACHINE, EVIDENCE_OF_SCREEN = "worker.json", "machine.json", "screen.png"

# In `results/gen-0007/`:
RESULTS_CSV, ATTEMPTS_CSV, SUMMARY_JSON = "results.csv", "attempts.csv", "summary.json"
RESULTS_JSONL = "results.jsonl"
ATTEMPTS, SET_ASIDE = "attempts", "set-aside"
PRUNED_JSON = "pruned.json"  #: what was removed of them
# In `results/gen-0007/attempts/<attempt>/`; earlier versions of this program kept the result there, too:
ATTEMPT_RESULT, ATTEMPT_LOG, ATTEMPT_FILES = "result.json", "log.txt", "files"


def generation_folder(generation: int) -> str:
    """The name of a generation's folder, below `genomes/` and below `results/`."""
    return f"{_GENERATION}{generation:04d}"


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """The paths of the project in the folder `root`."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.root / CONFIG_FILE

    @property
    def workers(self) -> Path:
        """The folder of worker descriptions, one file for each worker that may join and leave."""
        return self.root / "workers"

    @property
    def drained(self) -> Path:
        """A file for each worker that is drained."""
        return self.state / "drained"

    @property
    def restarts(self) -> Path:
        """A file for each worker whose machine is to be restarted."""
        return self.state / "restarts"

    @property
    def schema(self) -> Path:
        """The JSON Schema of the configuration."""
        return self.root / SCHEMA_FILE

    @property
    def all_genomes(self) -> Path:
        """The folder of the generations' genomes."""
        return self.root / "genomes"

    def genomes(self, generation: int) -> Path:
        """The folder of a generation's genomes."""
        return self.all_genomes / generation_folder(generation)

    @property
    def all_results(self) -> Path:
        """The folder of the generations' results, and of reports."""
        return self.root / "results"

    def results(self, generation: int) -> Path:
        """The folder of a generation's results."""
        return self.all_results / generation_folder(generation)

    def report(self, generation: int | None) -> Path:
        """The report of a generation, or of all."""
        name = "report.html" if generation is None else f"report-{generation_folder(generation)}.html"
        return self.all_results / name

    @property
    def state(self) -> Path:
        """The folder of this host's own files."""
        return self.root / "state"

    @property
    def lock(self) -> Path:
        """Locked while a process has the project open."""
        return self.state / "host.lock"

    @property
    def snapshots(self) -> Path:
        """The genomes' bytes, by their digests."""
        return self.state / "genomes"

    @property
    def read_files(self) -> Path:
        """Which files of a generation were read, and how they were then."""
        return self.state / "read.json"

    @property
    def submissions(self) -> Path:
        """Genomes that programs elsewhere have submitted and that have not joined their generation yet."""
        return self.state / "submissions.db"

    @property
    def tokens(self) -> Path:
        """The tokens of programs that use the project over HTTP, without their secrets."""
        return self.state / "tokens.json"

    @property
    def tokens_lock(self) -> Path:
        """Locked while a process makes or revokes a token."""
        return self.state / "tokens.lock"

    @property
    def shared_values(self) -> Path:
        """The values that calls of an executor have in common, by their digests."""
        return self.state / "shared"

    @property
    def all_evaluator_files(self) -> Path:
        """The folder of the versions of the evaluator."""
        return self.state / "evaluators"

    @property
    def all_deployments(self) -> Path:
        """The folder of the evaluators that were deployed."""
        return self.state / "deployments"

    @property
    def deployments(self) -> Path:
        """Which evaluators were deployed, when, and to whom."""
        return self.all_deployments / "deployments.json"

    @property
    def deployments_lock(self) -> Path:
        """Locked while a process deploys an evaluator."""
        return self.all_deployments / "deploy.lock"

    @property
    def new_archive(self) -> Path:
        """An archive that is being packed."""
        return self.all_deployments / "new"

    def deployed_archive(self, sha256: str) -> Path:
        """An archive that was deployed; equal versions may have several, because rights are no part of a version."""
        return self.all_deployments / f"{sha256}.zip"

    @property
    def incoming(self) -> Path:
        """Artifacts that were fetched and are not archived yet, by worker."""
        return self.state / "incoming"

    @property
    def evidence(self) -> Path:
        """What is saved of a machine before it is restored."""
        return self.state / "evidence"

    def share(self, worker: str) -> Path:
        """The share of a local worker."""
        return self.state / "shares" / worker

    def agent_state(self, worker: str) -> Path:
        """The state folder of a local worker's agent."""
        return self.state / "local" / worker

    def evaluator_files(self, version: str) -> Path:
        """Paths and digests of the files of one version of the evaluator."""
        return self.all_evaluator_files / f"{version}.json"

    def agent_settings(self, worker: str) -> Path:
        """What a local worker's agent plays."""
        return self.agent_state(worker) / "agent.json"

    def agent_log(self, worker: str) -> Path:
        """The output of a local worker's agent."""
        return self.agent_state(worker) / "agent.log"


@dataclass(frozen=True, slots=True)
class SitePaths:
    """The paths of a site, on its own computer: what it keeps of one farm is in `folder`."""

    folder: Path

    @property
    def lock(self) -> Path:
        """Locked while a process is this site."""
        return self.folder / "site.lock"

    @property
    def store(self) -> Path:
        """Genomes and evaluators by their digests."""
        return self.folder / "store"

    @property
    def project(self) -> ProjectPaths:
        """Shares, agents and incoming artifacts have the same places as those of a host."""
        return ProjectPaths(self.folder)


def default_site_base(state_base: Path) -> Path:
    """Where sites are by default, below the folder in which programs of this user keep their state."""
    return state_base / "genome-pipeline" / "sites"
