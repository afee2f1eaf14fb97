"""What is removed of a generation when it is finished: `keep` in `[generation]`.

Not here: what each level keeps (`core.retention`), the command `prune` (`storage.project_pruning`).
"""

import logging
from datetime import UTC, datetime

from pipeline.core.farm import Farm
from pipeline.core.retention import Keep, kinds_of, without_files
from pipeline.paths import ProjectPaths
from pipeline.storage.pruned_record import UnreadableRecord, record_pruned
from pipeline.storage.results_pruning import removals_of_results, remove_all

log = logging.getLogger(__name__)


def apply_keep(keep: Keep, paths: ProjectPaths, farm: Farm, facts: int) -> None:
    """Removes what is not kept of the farm's finished generation; `facts` is the number of the ledger's last one.

    What cannot be removed causes one warning: the results are complete.
    """
    if not (kinds := kinds_of(keep)):
        return
    outcomes = {attempt.id: attempt.outcome for attempt in farm.attempts.values()}
    folder = paths.results(farm.generation)
    over = {attempt for attempt, outcome in outcomes.items() if outcome is not None}
    try:
        files = without_files(kinds, outcomes)
        removals = list(removals_of_results(folder, farm.generation, kinds, files, over))
        if removals:
            record_pruned(folder, kinds, facts, facts, datetime.now(UTC))
        problems = remove_all(removals)
    except (OSError, UnreadableRecord) as error:
        problems = [str(error)]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        log.warning('keep = "%s": cannot be removed: %s%s; `pipeline prune` tries again', keep, problems[0], more)
