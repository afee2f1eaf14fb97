"""A project that this process plays through its operations, and genomes to submit to it."""

import json
from pathlib import Path

from pipeline.control.operations import SubmittedGenome
from pipeline.control.project_operations import ProjectOperations


def genomes(count: int, first: int = 0, **orders: object) -> list[SubmittedGenome]:
    """Numbered genomes."""
    return [genome(f"g{number:03d}", n=number, **orders) for number in range(first, first + count)]


def genome(name: str, **orders: object) -> SubmittedGenome:
    return SubmittedGenome(name=name, content=json.dumps(orders, default=str).encode())


def opened(root: Path) -> ProjectOperations:
    """The operations on a project that this process plays."""
    operations = ProjectOperations(root)
    try:
        operations.open_project()
    except BaseException:
        operations.close()
        raise
    return operations
