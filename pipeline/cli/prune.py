"""The command `prune`: removes what old generations left on the disk."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import click

from pipeline.cli.completion import complete_generation
from pipeline.cli.options import root_option
from pipeline.core.disk_room import bytes_text
from pipeline.core.runs import parse_generation
from pipeline.errors import ExitCode, InputError
from pipeline.inspection.project_reader import no_run_error
from pipeline.paths import ProjectPaths
from pipeline.storage.disk_use import DiskUse
from pipeline.storage.ledger import has_ledger
from pipeline.storage.project_pruning import PruneRequest, PruningPlan, plan_pruning, prune
from pipeline.storage.results_pruning import Removal
from pipeline.views.text_table import format_table

_AGE = re.compile(r"(\d{1,5})([hdw])", re.ASCII)
_NAMED_MAX = 10  #: generations that are not finished, in a line
_UNIT_S = {"h": 3600, "d": 86400, "w": 7 * 86400}


@click.command("prune")
@click.option(
    "--older-than", "age", required=True, metavar="AGE", help="How long ago a generation ended: 12h, 30d, 8w, or 0d."
)
@click.option("--what-if", is_flag=True, help="Print what would be removed, and change nothing.")
@click.option(
    "--keep",
    type=click.Choice(["failed", "results", "summary"]),
    default="results",
    show_default=True,
    help="What stays beside the tables: logs and artifacts of attempts that did not complete; records only; nothing.",
)
@click.option("--gen", "gen", help="Only this generation.", shell_complete=complete_generation)
@root_option
def prune_project(
    age: str, what_if: bool, keep: Literal["failed", "results", "summary"], gen: str | None, root: Path
) -> int:
    """Remove what old finished generations left on the disk, and say how much was freed.

    Of each generation whose last fact is older than AGE: logs and artifacts, results that were set
    aside or belong to earlier runs, and snapshots of genomes that no other generation needs. Of the
    project, without --gen: shared values of calls, evaluator files and evidence of machines that
    nothing needs. The ledger, results.csv, attempts.csv and summary.json stay, and genomes/ is not
    touched. `pipeline verify` then says when files were pruned, and checks the count as before.

    A generation that is not finished keeps everything. A host that runs here is refused.
    """
    paths, now = ProjectPaths(root), time.time()
    before = now - _seconds(age)
    if not has_ledger(paths.state):
        raise no_run_error(root)
    request = PruneRequest(before, keep, parse_generation(gen) if gen is not None else None)
    plan = plan_pruning(paths, request) if what_if else prune(paths, request, now)
    click.echo(_text(plan, age, what_if=what_if))
    return ExitCode.OK


def _seconds(age: str) -> int:
    if (match := _AGE.fullmatch(age.strip().lower())) is None:
        raise InputError(f"--older-than {age}: expected a number of hours, days or weeks, e.g. 12h, 30d or 8w")
    return int(match[1]) * _UNIT_S[match[2]]


def _text(plan: PruningPlan, age: str, *, what_if: bool) -> str:
    lines = [_table(plan.removals)] if plan.removals else []
    freed = bytes_text(sum(removal.use.bytes for removal in plan.removals))
    if not plan.removals:
        lines.append(f"there is nothing to remove that is older than {age}")
    elif what_if:
        lines.append(f"{freed} would be freed; nothing was changed")
    else:
        lines.append(f"{freed} freed; the counts are intact in the ledger and the tables")
    if plan.unfinished:
        more = f" and {len(plan.unfinished) - _NAMED_MAX} more" if len(plan.unfinished) > _NAMED_MAX else ""
        numbers = ", ".join(map(str, plan.unfinished[:_NAMED_MAX])) + more
        lines.append(f"not finished, so nothing of it is removed: generation {numbers}")
    return "\n".join(lines)


def _table(removals: Iterable[Removal]) -> str:
    uses: dict[tuple[int, str], DiskUse] = {}
    for removal in removals:
        key = removal.generation, removal.what
        uses[key] = uses.get(key, DiskUse()) + removal.use
    rows = [
        (str(generation) if generation else "all", what, f"{use.files:,}", bytes_text(use.bytes))
        for (generation, what), use in sorted(uses.items(), key=lambda item: (not item[0][0], item[0]))
    ]
    return format_table([("generation", "what", "files", "size"), *rows], right=(2, 3))
