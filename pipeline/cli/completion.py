"""What a shell completes: names of workers and genomes, and numbers of generations, of the project in `--root`."""

from pathlib import Path

import click

from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.paths import GENERATION_FOLDER, GENERATION_GLOB, ProjectPaths
from pipeline.storage.snapshots import is_ignored

_NAMES_MAX = 200  # of those that a shell shows


def complete_worker(context: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Workers of the project."""
    try:
        names = load_config(_root(context), check=False).worker_names()
    except PipelineError:
        return []
    return [name for name in names if name.startswith(begun)]


def complete_host(context: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Names of the hosts of machines."""
    try:
        names = load_config(_root(context), check=False).machine_tables()
    except PipelineError:
        return []
    return [name for name in names if name.startswith(begun) and name]


def complete_generation(context: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Numbers of the generations that have a folder of genomes."""
    return [str(number) for number in _generations(context) if str(number).startswith(begun)]


def complete_genome(context: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Genomes of the newest generation."""
    folders = _generations(context)
    if not folders:
        return []
    names = (path.name for path in sorted(folders[max(folders)].iterdir()))
    return [name for name in names if name.startswith(begun) and not is_ignored(name) and name.isprintable()][
        :_NAMES_MAX
    ]


def complete_genome_or_worker(context: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """Genomes of the newest generation, and workers."""
    return [*complete_genome(context, param, begun), *complete_worker(context, param, begun)]


def _generations(context: click.Context) -> dict[int, Path]:
    folders = sorted(ProjectPaths(_root(context)).all_genomes.glob(GENERATION_GLOB))
    found = ((GENERATION_FOLDER.fullmatch(path.name), path) for path in folders if path.is_dir())
    return {int(match[1]): path for match, path in found if match is not None}


def _root(context: click.Context) -> Path:
    return Path(context.params.get("root") or ".")
