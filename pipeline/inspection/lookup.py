"""`pipeline explain`: finds the genome, attempt or worker of a name and explains it."""

from inbox_agent.protocol.layout import attempt_of, is_attempt
from pipeline.core.farm import Farm
from pipeline.errors import InputError
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import GENERATION_FOLDER
from pipeline.views.explain import explain_attempt, explain_genome, explain_worker
from pipeline.views.worker_state import WorkerStates

SUGGESTED_MAX = 5


def explain(reader: ProjectReader, what: str, generation: int | None) -> str:
    """The explanation of a genome, an attempt or a worker, by name or by the path of a genome or of a share's file.

    Raises:
        InputError: no genome, attempt or worker has that name.
    """
    folder, _, name = what.replace("\\", "/").rstrip("/").rpartition("/")  # shell completion appends a slash
    file = attempt_of(name)
    names = (what.rstrip("/"), file[0] if file is not None else name)  # a backslash may be part of the name
    if generation is None:
        generation = _generation_of(reader, folder, names[1])
    chosen = reader.choose(generation)
    farm, live = reader.farm(chosen), reader.live(chosen)
    playing, states = live is not None, WorkerStates(farm, reader.history(chosen), live)
    depth, unknown = reader.config.queue_depths(), states.unknown()
    for name in names:
        if name in farm.attempts:
            return "\n".join(explain_attempt(farm, farm.attempts[name], depth, playing=playing, unknown=unknown))
        for genome in farm.genomes:
            if genome.name == name:
                return "\n".join(explain_genome(farm, genome, depth, playing=playing, unknown=unknown))
        if states.knows(name):
            return "\n".join(explain_worker(farm, name, reader.history(chosen), live))
    raise InputError(f"{what}: no genome, attempt or worker of generation {chosen}{_suggestion(farm, names[1])}")


def _generation_of(reader: ProjectReader, folder: str, name: str) -> int | None:
    """The generation that issued an attempt, or that of a genome's folder if it was ever run."""
    if is_attempt(name) and (generation := reader.generation_of(name)) is not None:
        return generation
    of_folder = GENERATION_FOLDER.fullmatch(folder)
    return int(of_folder[1]) if of_folder and int(of_folder[1]) in reader.generations() else None


def _suggestion(farm: Farm, what: str) -> str:
    known = [*(genome.name for genome in farm.genomes), *farm.workers, *farm.attempts]
    near = [name for name in known if what.lower() in name.lower()][:SUGGESTED_MAX]
    return f"; did you mean {', '.join(near)}?" if near else ""
