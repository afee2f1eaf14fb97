"""The texts about an archive: results that are not there, and what a kill leaves and is no problem. Pure."""

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


def unread_results(unread: Mapping[str, str], read: int, folder: str) -> list[str]:
    """The results that are not there to compare, by attempt with the reason, in a few lines; `read` others were."""
    if len(unread) > LISTED_MAX:
        attempt, why = next(iter(unread.items()))
        lacking = f"{len(unread)} of its {len(unread) + read} archived results"
        return [f"results/{folder} lacks {lacking}, the first is {attempt}: {why}; they are only in a backup"]
    return [f"result of {attempt}: {why}; it is only in a backup" for attempt, why in unread.items()]


def _listed(items: Sequence[object]) -> str:
    return ", ".join([str(item) for item in items[:LISTED_MAX]] + ["…"] * (len(items) > LISTED_MAX))
