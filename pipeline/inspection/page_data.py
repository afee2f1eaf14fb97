"""What the page is given, of a project: the sheets of some generations, and all of them over time."""

from collections.abc import Iterable
from typing import Any

from pipeline.inspection.project_reader import Chronicle
from pipeline.views.page_model import sheet, trend


def page_data(chronicle: Chronicle, shown: int, sheets: Iterable[int] | None = None) -> dict[str, Any]:
    """Data of the page that shows one generation; `sheets` are those that can be chosen, only that one by default."""
    direction, depth = chronicle.config.generation.direction, chronicle.config.queue_depths()
    chosen = list(sheets) if sheets is not None else [shown]
    return {
        "shown": shown,
        "facts": chronicle.facts,
        "generations": chosen,
        "trend": trend([chronicle.farm(generation) for generation in chronicle.generations()], direction),
        "sheets": {
            str(generation): sheet(
                chronicle.farm(generation),
                chronicle.told(generation),
                depth,
                direction=direction,
                playing=chronicle.is_playing(generation),
            )
            for generation in chosen
        },
    }
