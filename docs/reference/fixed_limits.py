"""The limits that no key changes, in the page of `pipeline.toml`: what a user may meet, with the values of the code.

Not here: the limits of records and payloads, which the table of share_layout.md has.
"""

from importlib import import_module

#: What is limited, and where the code has the value.
FIXED = (
    ("characters of a genome's file name", "pipeline.storage.snapshots.NAME_CHARS_MAX"),
    ("the number of a generation", "pipeline.core.runs.GENERATION_MAX"),
    ("characters of the name of a Hyper-V guest", "pipeline.machines.fleet.COMPUTER_NAME_MAX"),
    ("characters of a path on Windows, unless long paths are enabled", "inbox_agent.system.long_paths.PATH_CHARS_MAX"),
    ("characters of the path of a QEMU machine's sockets", "hyperv_ops.qemu.qmp.SOCKET_PATH_MAX"),
    ("the latest console output of a QEMU machine, and that before it", "hyperv_ops.qemu.console.FILE_BYTES_MAX"),
    ("the file of a password", "pipeline.secrets.FILE_BYTES_MAX"),
    ("a file that is sent to a Hyper-V machine", "hyperv_ops.hyperv.machines.SEND_BYTES_MAX"),
    ("memory that a kept process may gain before it is replaced", "inbox_agent.evaluation.memory.GROWTH_MAX_MB"),
    ("the log of a local worker's agent, before it is begun anew", "hyperv_ops.local.LOG_BYTES_MAX"),
    ("the log of the host, before the next file of it is begun", "pipeline.storage.event_log.FILE_BYTES_MAX"),
    ("a file of results that `pipeline verify` reads", "pipeline.inspection.verify.OUTPUT_BYTES_MAX"),
    ("machines that `pipeline vm` works on at a time", "pipeline.machines.fleet.AT_ONCE_MAX"),
    ("for a guest to shut down, for `pipeline vm`", "pipeline.machines.fleet.SHUTDOWN_LIMIT_S"),
    ("for a guest to shut down, in a run", "pipeline.machines.controller.SHUTDOWN_LIMIT_S"),
    ("attempts that a worker holds while its games are short", "pipeline.core.queues.DEPTH_MAX"),
    ("games that two workers have completed before their speeds are compared", "pipeline.core.pace.COMPARED_MIN"),
    ("genomes in a worker's queue that is deeper than `queue_depth`", "pipeline.core.queues.AHEAD_BYTES_MAX"),
    ("genomes that fail alike, while none completes, before a run ends", "pipeline.core.since_start.GENOMES_ALIKE"),
    ("free space on a share's disk, for `pipeline doctor`", "pipeline.diagnosis.shares.FREE_BYTES_MIN"),
    ("free space on a share's disk, for `inbox-agent doctor`", "inbox_agent.doctor.FREE_BYTES_MIN"),
    ("deployments of a project that are kept", "pipeline.storage.deployment_store.KEPT_MAX"),
    ("characters of a path in the archive of an evaluator", "inbox_agent.evaluator_archive.PATH_CHARS_MAX"),
    ("remote shares that are asked at a time", "pipeline.shares.executor.THREADS_MAX"),
    ("of these, shares whose last request failed", "pipeline.shares.executor.DOUBTFUL_MAX"),
    ("a message of an SMB server", "pipeline.shares.smb.frames.FRAME_BYTES_MAX"),
    ("for a message of an SMB server, once it has begun", "pipeline.shares.smb.frames.FRAME_LIMIT_S"),
    ("for the listing of a folder over SMB", "pipeline.shares.smb.files.LISTING_LIMIT_S"),
    ("what a site keeps of genomes and evaluators", "pipeline.machines.sites.content_store.STORE_BYTES_MAX"),
    ("free space on the disk of a site, for `pipeline doctor`", "pipeline.machines.sites.examination.FREE_BYTES_MIN"),
    ("sites of a farm, those that are gone included", "pipeline.machines.sites.site_search.SITES_MAX"),
    ("workers on all sites of a farm", "pipeline.machines.sites.site_search.SITE_WORKERS_MAX"),
    ("an answer of a site", "pipeline.machines.sites.messages.ANSWER_BYTES_MAX"),
    ("params of a genome", "pipeline.core.params.PARAMS_MAX"),
    ("characters of the name of a param", "pipeline.core.params.PARAM_NAME_CHARS_MAX"),
    ("characters of a param that is a text", "pipeline.core.params.PARAM_CHARS_MAX"),
    ("names of params of a generation that its tables have", "pipeline.views.results.PARAM_NAMES_MAX"),
    ("NumPy arrays in the value of a call", "pipeline.calls.values.ARRAYS_MAX"),
    ("how deep the value of a call may be nested", "pipeline.calls.values.DEPTH_MAX"),
    ("metrics of a generation that its tables and its page have", "pipeline.views.results.METRIC_NAMES_MAX"),
    ("characters of a token of `pipeline serve`, at least", "pipeline.ui.web_server.TOKEN_CHARS_MIN"),
    ("characters of a text in an answer of `pipeline mcp`", "pipeline.mcp_server.answers.TEXT_CHARS_MAX"),
    ("an answer of `pipeline mcp`", "pipeline.mcp_server.answers.ANSWER_BYTES_MAX"),
    ("lines of an explanation by `pipeline mcp`", "pipeline.mcp_server.answers.EXPLAINED_LINES_MAX"),
    ("genomes or events on a page of `pipeline mcp`", "pipeline.mcp_server.arguments.PAGE_MAX"),
    ("for a tool of `pipeline mcp` to wait", "pipeline.mcp_server.arguments.WAIT_MAX_S"),
    ("genomes that are submitted in one call to `pipeline mcp`", "pipeline.mcp_server.arguments.SUBMITTED_MAX"),
    ("a genome that is submitted to `pipeline mcp`", "pipeline.mcp_server.arguments.SUBMITTED_BYTES_MAX"),
    ("a message to `pipeline mcp`", "pipeline.mcp_server.stdio_transport.LINE_BYTES_MAX"),
    ("generations whose results `pipeline mcp` lists", "pipeline.mcp_server.resources.LISTED_GENERATIONS_MAX"),
    ("clients of `pipeline mcp --http` at a time", "pipeline.mcp_server.http_transport.SESSIONS_MAX"),
    ("characters of the token of `pipeline mcp`, at least", "pipeline.mcp_server.http_transport.TOKEN_CHARS_MIN"),
    ("genomes of other programs that wait for a worker", "pipeline.control.played_generation.WAITING_MAX"),
    ("of their bytes", "pipeline.control.played_generation.WAITING_BYTES_MAX"),
    ("items of an answer to another program", "pipeline.control.project_reading.LIMIT_MAX"),
    ("characters of an idempotency key", "pipeline.control.project_operations.KEY_CHARS_MAX"),
    ("worker descriptions of a project", "pipeline.config.worker_descriptions.DESCRIPTIONS_MAX"),
    ("a worker description", "pipeline.config.worker_descriptions.FILE_BYTES_MAX"),
    ("silence of a pilot, before its description is removed", "inbox_agent.pilot.LEASE_S"),
    ("for a host to collect the results of a pilot that ends", "inbox_agent.pilot.COLLECT_LIMIT_S"),
    ("tokens of a project, by `pipeline token`", "pipeline.storage.token_store.TOKENS_MAX"),
    ("characters of a token's secret", "pipeline.storage.token_store.SECRET_CHARS_MAX"),
    ("the audit log, before the next file of it is begun", "pipeline.storage.audit_log.AUDIT_BYTES_MAX"),
    ("connections to `pipeline serve`", "pipeline.ui.connections.CONNECTIONS_MAX"),
    ("the headers of a request to `pipeline serve`", "pipeline.ui.connections.HEAD_BYTES_MAX"),
    ("for these headers, from the connection on", "pipeline.ui.connections.HEAD_LIMIT_S"),
    ("that a client may leave an answer of `pipeline serve` unread", "pipeline.ui.connections.UNREAD_LIMIT_S"),
    ("requests over HTTP that are answered at a time", "pipeline.http_api.gate.REQUESTS_MAX"),
    ("clients over HTTP that wait, and streams of events, at a time", "pipeline.http_api.gate.STREAMS_MAX"),
    ("requests of a token, in a second, in the long run", "pipeline.http_api.gate.RATE_PER_S"),
    ("requests of a token at once", "pipeline.http_api.gate.BURST_MAX"),
    ("genomes of a batch over HTTP", "pipeline.http_api.changing.BATCH_GENOMES_MAX"),
    ("a batch over HTTP", "pipeline.http_api.changing.BATCH_BYTES_MAX"),
    ("the body of another request over HTTP", "pipeline.http_api.changing.SMALL_BYTES_MAX"),
    ("bodies of all requests over HTTP together", "pipeline.http_api.request_body.BODIES_BYTES_MAX"),
    (
        "a body over HTTP, in a second, at least, after the first 30",
        "pipeline.http_api.request_body.BODY_BYTES_PER_S_MIN",
    ),
    ("items of a page over HTTP", "pipeline.http_api.parameters.PAGE_MAX"),
    ("for which a request over HTTP may wait", "pipeline.http_api.parameters.WAIT_S_MAX"),
    ("characters of what `/v1/explain` is asked for", "pipeline.http_api.parameters.WHAT_CHARS_MAX"),
    ("characters of an idempotency key", "pipeline.http_api.parameters.KEY_CHARS_MAX"),
    ("failed genomes, and files of each kind, that `pipeline run` names", "pipeline.cli.play.NAMED_MAX"),
    ("before `pipeline watch` tries what failed again, at first", "pipeline.core.due_generations.RETRY_MIN_S"),
    ("before `pipeline watch` tries what failed again, at most", "pipeline.core.due_generations.RETRY_MAX_S"),
    ("tries of a client's request outside of a generation", "pipeline.remote.retry.TRIES_MAX"),
    ("before a client tries again, at most", "pipeline.remote.retry.BACKOFF_MAX_S"),
    ("an answer that a client takes", "pipeline.remote.http_connections.ANSWER_BYTES_MAX"),
    ("genomes that a client sends at once", "pipeline.remote.submissions.BATCH_GENOMES_MAX"),
    ("these genomes as JSON; a larger one is sent alone", "pipeline.remote.submissions.BATCH_BYTES_MAX"),
    ("genomes that wait in a client before `submit` waits", "pipeline.remote.submissions.QUEUE_GENOMES_MAX"),
    ("the same, in bytes", "pipeline.remote.submissions.QUEUE_BYTES_MAX"),
    ("characters of a client's token", "pipeline.remote.access.TOKEN_CHARS_MAX"),
)

_OPENING = """\
## Fixed limits

No key changes these. Those of records, results, logs, artifacts and settings are in
[share_layout.md](../../share_layout.md#numbers).

| what | value |
|---|---|
"""


def fixed_limits() -> str:
    """The section, in Markdown."""
    return _OPENING + "".join(f"| {what} | {worded(source)} |\n" for what, source in FIXED)


def worded(source: str) -> str:
    """A constant's value, with the unit that its name ends in."""
    module, _, name = source.rpartition(".")
    value = getattr(import_module(module), name)
    if "BYTES" in name:
        return f"{value // 2**20} MiB" if value >= 2**20 else f"{value // 2**10} KiB"
    if name.endswith("_MB"):
        return f"{value} MB"
    return f"{value:g} s" if name.endswith("_S") else f"{value:,}"
