"""`pipeline explain`: finds what is meant, a genome, an attempt or a worker, and has its story told."""

import re

from inbox_agent.settings_file import SettingsError
from pipeline.chronicle import Chronicle
from pipeline.core.farm import Farm
from pipeline.screens.story import explain_attempt, explain_genome, explain_worker

_ATTEMPT = re.compile(r"g(\d{4,9})-", re.ASCII)
SUGGESTED_MAX = 5


def explain(chronicle: Chronicle, what: str, generation: int | None) -> str:
    """The story of a genome, an attempt or a worker.

    Raises:
        SettingsError: nothing of that name is known.
    """
    said = _ATTEMPT.match(what)
    if said is not None and generation is None and int(said[1]) in chronicle.generations():
        generation = int(said[1])  # an attempt says itself where it belongs
    chosen = chronicle.choose(generation)
    farm, playing = chronicle.farm(chosen), chronicle.is_playing(chosen)
    depth = chronicle.config.queue_depths()
    if what in farm.attempts:
        return "\n".join(explain_attempt(farm, farm.attempts[what], depth, playing=playing))
    for genome in farm.genomes:
        if genome.name == what:
            return "\n".join(explain_genome(farm, genome, depth, playing=playing))
    if what in farm.workers or what in farm.retired:
        return "\n".join(explain_worker(farm, what, chronicle.told(chosen)))
    raise SettingsError(f"{what}: no genome, attempt or worker of generation {chosen}{_suggestion(farm, what)}")


def _suggestion(farm: Farm, what: str) -> str:
    known = [*(genome.name for genome in farm.genomes), *farm.workers, *farm.attempts]
    near = [name for name in known if what.lower() in name.lower()][:SUGGESTED_MAX]
    return f"; did you mean {', '.join(near)}?" if near else ""
