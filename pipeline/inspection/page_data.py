"""The page's data, read from a project: page models of some generations, and the trend of all."""

import os
from collections.abc import Iterable
from typing import Any

from inbox_agent.protocol.layout import is_attempt
from pipeline.inspection.project_reader import ProjectReader
from pipeline.paths import ATTEMPTS, ProjectPaths, generation_folder
from pipeline.views.page_model import fitness_trend, page_model


def page_data(
    reader: ProjectReader, shown: int, sheets: Iterable[int] | None = None, *, results: str | None = None
) -> dict[str, Any]:
    """Data of the page that shows one generation first.

    Args:
        sheets: the generations to choose from; by default only that one.
        results: the URL of the folder of all results, relative to the page, if it may have links to files there.
    """
    direction, depth = reader.config.generation.direction, reader.config.queue_depths()
    chosen, paths = list(sheets) if sheets is not None else [shown], ProjectPaths(reader.root)
    return {
        "shown": shown,
        "facts": reader.facts,
        "generations": chosen,
        "results": results,
        "archives": {str(generation): generation_folder(generation) for generation in chosen},
        "folders": {
            str(generation): _folders(paths, generation) if results is not None else [] for generation in chosen
        },
        "trend": fitness_trend([reader.farm(generation) for generation in reader.generations()], direction),
        "sheets": {
            str(generation): page_model(
                reader.farm(generation),
                reader.history(generation),
                depth,
                direction=direction,
                live=reader.live(generation),
            )
            for generation in chosen
        },
    }


def _folders(paths: ProjectPaths, generation: int) -> list[str]:
    """The attempts that have a folder: those with a log or artifacts, and all of earlier versions of this program."""
    try:
        return sorted(filter(is_attempt, os.listdir(paths.results(generation) / ATTEMPTS)))
    except OSError:
        return []
