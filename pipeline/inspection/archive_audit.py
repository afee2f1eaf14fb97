"""What is unusual in an archive and no problem: what a kill or a power failure leaves. Pure."""

from collections.abc import Mapping, Sequence

from pipeline.core.facts import AttemptEnded
from pipeline.inspection.archived_result import ArchivedResult, Evidence
from pipeline.inspection.output_audit import LISTED_MAX
from pipeline.paths import RESULTS_JSONL
from pipeline.views.fact_text import counted


def archive_warnings(evidence: Evidence, ended: Mapping[str, AttemptEnded]) -> list[str]:
    """One line for each kind; `ended`: the attempts of a finished run, by their ids."""
    found, damaged = [], evidence.damaged_lines
    if damaged:
        found.append(
            f"{RESULTS_JSONL} has {counted(len(damaged), 'damaged line')}, skipped: {_listed(damaged)}; a write that "
            "is cut off leaves one, and what it was to archive is archived again before it is counted"
        )
    archived = evidence.archived
    if uncounted := [a for a, f in ended.items() if not f.archived and isinstance(archived.get(a), ArchivedResult)]:
        found.append(
            f"{counted(len(uncounted), 'archived result')} did not count: {_listed(uncounted)}; the host was killed "
            "before it recorded that, and the attempt ended otherwise"
        )
    return found


def _listed(items: Sequence[object]) -> str:
    return ", ".join([str(item) for item in items[:LISTED_MAX]] + ["…"] * (len(items) > LISTED_MAX))
