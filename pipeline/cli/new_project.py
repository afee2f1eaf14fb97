"""`pipeline init`: copies the example project, which runs at once, as a starting point."""

from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

from inbox_agent.system.atomic_file import made_folder, new_file
from pipeline.cli.config_schema import config_schema
from pipeline.errors import InputError
from pipeline.paths import ProjectPaths

EXAMPLE = files("pipeline.cli") / "example_project"
EVALUATOR_FILE = "play.py"


def init(folder: Path) -> list[Path]:
    """Creates the example project; returns the paths of its files. If that fails, nothing of it is left.

    Raises:
        InputError: one of its files exists already, or the folder cannot be written.
    """
    paths = ProjectPaths(folder)
    sources = {paths.config: EXAMPLE / paths.config.name, folder / EVALUATOR_FILE: EXAMPLE / EVALUATOR_FILE}
    genomes = sorted((EXAMPLE / paths.all_genomes.name).iterdir(), key=lambda genome: genome.name)
    sources |= {paths.genomes(1) / genome.name: genome for genome in genomes}
    contents = {path: source.read_bytes() for path, source in sources.items()}
    contents[paths.schema] = config_schema().encode()
    try:
        for path in contents:
            if path.exists():
                raise InputError(f"{path}: exists already; init makes new projects only")
        with ExitStack() as made:
            for path, data in contents.items():
                made.enter_context(made_folder(path.parent))
                made.enter_context(new_file(path, data))
            made.enter_context(made_folder(paths.all_results))
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}; give another folder") from error
    return list(contents)
