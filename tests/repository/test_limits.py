"""Every limit in the code is documented, or known to concern no user."""

import ast
import re
from collections.abc import Iterator

import pytest

from docs.reference.configuration import configuration
from docs.reference.fixed_limits import FIXED, worded
from tests.harness.source_tree import ROOT
from tests.repository.architecture import MODULES, tree_of

pytestmark = pytest.mark.source
#: How much of something is shown, tried or done at a time, and copies of documented limits: no user has to keep them.
INTERNAL = {
    "hyperv_ops.hyperv.machines._START_DELAY_MAX_S",
    "hyperv_ops.hyperv.powershell.IDLE_MAX",
    "hyperv_ops.hyperv.powershell._STDERR_BYTES_MAX",
    "hyperv_ops.hyperv.script_call.REPLY_BYTES_MAX",
    "hyperv_ops.hyperv.sealed_transport.ANSWER_BYTES_MAX",
    "hyperv_ops.hyperv.winrm.CALLS_MAX",
    "hyperv_ops.qemu.guest_agent.OUTPUT_BYTES_MAX",
    "hyperv_ops.qemu.qmp.ANSWER_BYTES_MAX",
    "inbox_agent.conformance.agent_process._LINE_CHARS_MAX",
    "inbox_agent.evaluation.answer.LINE_CHARS_MAX",
    "inbox_agent.evaluation.output_reader._LINE_BYTES_MAX",
    "inbox_agent.evaluation.output_reader._REPLIES_MAX",
    "inbox_agent.evaluation.version._PATH_CHARS_MAX",
    "inbox_agent.evaluation.versioned.LOOK_FRACTION_MAX",
    "inbox_agent.evaluation.versioned._FILES_NAMED_MAX",
    "inbox_agent.evaluation.versioned._LOG_CHARS_MAX",
    "inbox_agent.evaluation.worker_process._BYTES_MAX",
    "inbox_agent.evaluation.worker_process._LEFT_NAMED_MAX",
    "inbox_agent.evaluation.worker_process._TEXT_CHARS_MAX",
    "inbox_agent.evaluator_files._LINE_CHARS_MAX",
    "inbox_agent.evaluator_files._READS_MAX",
    "inbox_agent.protocol.local_files.SPARES_MAX",
    "inbox_agent.protocol.local_files.SPARES_TRIED_MAX",
    "inbox_agent.pilot._NAME_CHARS_MAX",
    "inbox_agent.settings._LINE_CHARS_MAX",
    "inbox_agent.settings._NAME_CHARS_MAX",
    "inbox_agent.settings_errors._WORD_CHARS_MIN",
    "inbox_agent.system.atomic_file._NAME_CHARS_MAX",
    "pipeline.calls.joblib_backend._JOBS_AT_ONCE_MIN",
    "pipeline.cli.completion._NAMES_MAX",
    "pipeline.cli.deploy._FILES_SHOWN_MAX",
    "pipeline.cli.prune._NAMED_MAX",
    "pipeline.host.deploy._PROBLEM_CHARS_MAX",
    "pipeline.machines.sites.first_sites._NAMED_MAX",
    "pipeline.machines.sites.dask_cluster._CONNECTIONS_MAX",
    "pipeline.machines.sites.dask_cluster._ERROR_CHARS_MAX",
    "pipeline.machines.sites.dask_cluster.NAME_CHARS_MAX",
    "pipeline.machines.sites.dask_plugin.THREADS_MAX",
    "pipeline.machines.sites.dask_sites.AGENTS_PER_SITE_MAX",
    "pipeline.machines.sites.dask_sites._PREFIX_CHARS_MAX",
    "pipeline.machines.sites.messages._ERROR_CHARS_MAX",
    "pipeline.machines.sites.remote_site._ALONG_BYTES_MAX",
    "pipeline.machines.sites.remote_site._TRIES_MAX",
    "pipeline.machines.sites.site_search.NAMED_MAX",
    "pipeline.machines.sites.site_search._NAME_CHARS_MAX",
    "pipeline.cli.inspect.TOP_TIME_FRACTION_MAX",
    "pipeline.core.model._GAME_MIN_S",
    "pipeline.control.played_generation.JOINED_MAX",
    "pipeline.control.project_reading._FACTS_READ_MAX",
    "pipeline.core.assignment._SEARCHED_MAX",
    "pipeline.core.isolation._SEARCHED_MAX",
    "pipeline.core.params._WHOLE_MAX",
    "pipeline.core.queues.GAMES_MEASURED_MIN",
    "pipeline.core.queues.HELD_WHILE_GATHERING_MIN",
    "pipeline.core.share_problems._ERROR_CHARS_MAX",
    "pipeline.diagnosis.evaluators.FILES_NAMED_MAX",
    "pipeline.diagnosis.evaluators._EQUAL_SHOWN_MAX",
    "pipeline.diagnosis.evaluators._ERROR_CHARS_MAX",
    "pipeline.diagnosis.evaluators._TARGET_SHOWN_MAX",
    "pipeline.diagnosis.evaluators._WORKERS_NAMED_MAX",
    "pipeline.diagnosis.shares.AT_ONCE_MAX",
    "pipeline.diagnosis.shares._NAMED_MAX",
    "pipeline.diagnosis.shares._SILENCE_IN_SECONDS_MAX_S",
    "pipeline.host.genome_folder.FILES_PER_LOOK_MAX",
    "pipeline.host.genome_folder.TIME_FRACTION_MAX",
    "pipeline.host.outputs.SLICE_TIME_FRACTION_MAX",
    "pipeline.host.outputs.TIME_FRACTION_MAX",
    "pipeline.host.project_evaluator._NAMED_MAX",
    "pipeline.host.site_workers.SITE_CHARS_MAX",
    "pipeline.host.watch._REASON_CHARS_MAX",
    "pipeline.host.watched_folders.NAMED_MAX",
    "pipeline.host.watched_folders.PAUSE_MAX_S",
    "pipeline.host.watched_folders.TIME_FRACTION_MAX",
    "pipeline.http_api.event_feed.KEPT_MAX",
    "pipeline.http_api.event_feed._SHARED_MAX",
    "pipeline.http_api.guard._DISCARDED_BYTES_MAX",
    "pipeline.http_api.parameters._AFTER_MAX",
    "pipeline.inspection.lookup.SUGGESTED_MAX",
    "pipeline.inspection.output_audit.LISTED_MAX",
    "pipeline.inspection.project_reader.GENERATIONS_KEPT_MAX",
    "pipeline.inspection.project_reader._NAMED_MAX",
    "pipeline.mcp_server.answers.ERROR_CHARS_MAX",
    "pipeline.mcp_server.completions._LOOKED_AT_MAX",
    "pipeline.mcp_server.completions._VALUES_MAX",
    "pipeline.mcp_server.http_transport._BODY_BYTES_MAX",
    "pipeline.mcp_server.http_transport._CONNECTIONS_MAX",
    "pipeline.mcp_server.prompts._ARGUMENT_CHARS_MAX",
    "pipeline.mcp_server.server.OPERATIONS_AT_ONCE_MAX",
    "pipeline.mcp_server.server.WAITS_AT_ONCE_MAX",
    "pipeline.remote.generation._CONFLICTS_MAX",
    "pipeline.remote.generation._FINISHED_PAUSE_MAX_S",
    "pipeline.remote.http_connections._CONNECTIONS_MAX",
    "pipeline.remote.name_lookup.ADDRESSES_MAX",
    "pipeline.remote.problems.REASON_CHARS_MAX",
    "pipeline.remote.retry._DOUBLINGS_MAX",
    "pipeline.service.definition._SLUG_MAX",
    "pipeline.service.service_manager._REASON_MAX",
    "pipeline.shares.result_collector._NAMED_MAX",
    "pipeline.shares.smb.messages.CREDITS_MAX",
    "pipeline.storage.ledger.SEQ_MAX",
    "pipeline.storage.ledger_rows.ERROR_CHARS_MAX",
    "pipeline.storage.project_pruning._NAMED_MAX",
    "pipeline.storage.pruned_record.PRUNED_BYTES_MAX",
    "pipeline.storage.result_lines.LINE_BYTES_MAX",
    "pipeline.storage.token_store._FILE_BYTES_MAX",
    "pipeline.ui.display._NAME_CELLS_MAX",
    "pipeline.ui.display._PROBLEMS_MAX",
    "pipeline.ui.display._WORKERS_MIN",
    "pipeline.ui.terminal.EVENTS_MAX",
    "pipeline.ui.web_server.PAGE_TIME_FRACTION_MAX",
    "pipeline.views.explain.REASON_CHARS_MAX",
    "pipeline.views.explain.REPEATED_CHARS_MAX",
    "pipeline.views.fact_text.JOINED_SHOWN_MAX",
    "pipeline.views.fitness_history.HISTORY_MAX",
    "pipeline.views.fitness_history.LEADERS_MAX",
    "pipeline.views.page_model.ATTEMPTS_MAX",
    "pipeline.views.progress._RECENT_MAX",
    "pipeline.views.ranking._SHOWN_MAX",
    "pipeline.views.status.OPEN_SHOWN_MAX",
    "pipeline.views.table.SHOWN_MAX",
    "pipeline.views.table._CELL_CHARS_MAX",
}


def limits() -> Iterator[str]:
    """The constants of the code whose name says that they are a limit of size or count."""
    for module in MODULES:
        for node in tree_of(module).body:
            for target in node.targets if isinstance(node, ast.Assign) else ():
                if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z_]*_(MAX|MIN)(_[A-Z]+)?", target.id):
                    yield f"{module}.{target.id}"


def test_every_limit_is_documented() -> None:
    """In the reference of `pipeline.toml`, or in the numbers of the share's layout."""
    layout = (ROOT / "share_layout.md").read_text(encoding="utf-8")
    numbers = set(re.findall(r"^\|.*\| `(\w+\.\w+)` \|$", layout, re.MULTILINE))
    fixed = {source for _what, source in FIXED}
    found = set(limits())
    undocumented = {limit for limit in found - fixed if ".".join(limit.split(".")[-2:]) not in numbers}
    assert undocumented == INTERNAL
    assert fixed.isdisjoint(INTERNAL)


@pytest.mark.parametrize(("what", "source"), FIXED)
def test_reference_has_the_value(what: str, source: str) -> None:
    """With its unit, from the code."""
    assert f"| {what} | {worded(source)} |\n" in configuration()
