"""The page's data, read from a project: page models of some generations, and the trend of all."""

from collections.abc import Iterable
from typing import Any

from pipeline.inspection.project_reader import ProjectReader
from pipeline.views.page_model import fitness_trend, page_model


def page_data(reader: ProjectReader, shown: int, sheets: Iterable[int] | None = None) -> dict[str, Any]:
    """Data of the page that shows one generation first; `sheets` are those to choose from, by default only that one."""
    direction, depth = reader.config.generation.direction, reader.config.queue_depths()
    chosen = list(sheets) if sheets is not None else [shown]
    return {
        "shown": shown,
        "facts": reader.facts,
        "generations": chosen,
        "trend": fitness_trend([reader.farm(generation) for generation in reader.generations()], direction),
        "sheets": {
            str(generation): page_model(
                reader.farm(generation),
                reader.history(generation),
                depth,
                direction=direction,
                playing=reader.is_playing(generation),
            )
            for generation in chosen
        },
    }
