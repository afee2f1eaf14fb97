"""Compares `results.csv` and `summary.json` with what an audit counted. Pure.

The ledger is what counts; both files are written from it, and can be written again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LISTED_MAX = 3  #: problems of one kind that are listed one by one


@dataclass(frozen=True, slots=True)
class CountedGenome:
    """A genome as the audit counted it."""

    name: str
    sha256: str
    fitness: float | None
    evaluators: str  #: as in the table


def output_problems(
    rows: Sequence[Mapping[str, str]] | None,
    summary: Mapping[str, Any] | None,
    genomes: Sequence[CountedGenome],
    evaluators: Sequence[str],
    generation: int,
) -> list[str]:
    """What differs in the outputs of a finished generation, one line per problem with what to do."""
    fix = f"`pipeline run --gen {generation}` writes it again, without playing, if pipeline.toml is as it was then"
    if rows is None:
        found = [f"results.csv is missing or cannot be read; {fix}"]
    elif len(rows) != len(genomes):
        found = [f"results.csv has {len(rows)} genomes, the ledger {len(genomes)}; {fix}"]
    else:
        wrong = [problem for row, genome in zip(rows, genomes, strict=True) for problem in _row_problems(row, genome)]
        found = shortened([f"results.csv gives {problem}; {fix}" for problem in wrong])
    if summary is None:
        return [*found, f"summary.json is missing or cannot be read; {fix}"]
    return [
        *found,
        *(f"summary.json says {problem}; {fix}" for problem in _count_problems(summary, genomes, evaluators)),
    ]


def shortened(problems: Sequence[str]) -> list[str]:
    """The first few problems of a kind, and how many there are besides."""
    listed, others = list(problems[:LISTED_MAX]), len(problems) - LISTED_MAX
    return [*listed, f"… and {others} more like this"] if others > 0 else listed


def _row_problems(row: Mapping[str, str], genome: CountedGenome) -> list[str]:
    found, said = [], row.get("evaluator", "")
    if said.removeprefix("'") != genome.evaluators:  # the mark of a text that a spreadsheet could take for a formula
        found.append(f"{genome.name} the evaluator {said or 'none'}, the ledger {genome.evaluators or 'none'}")
    said, fitness = row.get("fitness", ""), genome.fitness
    try:
        same = (fitness is None and said == "") or (fitness is not None and math.isclose(float(said), fitness))
    except ValueError:
        same = False
    if not same:
        known = "none" if fitness is None else f"{fitness:g}"
        found.append(f"{genome.name} the fitness {said or 'none'}, the ledger {known}")
    if (digest := row.get("sha256") or "none") != genome.sha256:
        found.append(f"{genome.name} the digest {digest[:12]}, the ledger {genome.sha256[:12]}")
    return found


def _count_problems(
    summary: Mapping[str, Any], genomes: Sequence[CountedGenome], evaluators: Sequence[str]
) -> list[str]:
    completed = sum(genome.fitness is not None for genome in genomes)
    expected = {
        "submitted": len(genomes),
        "completed": completed,
        "failed": len(genomes) - completed,
        "open": 0,
        "lost": 0,
        "duplicated": 0,
    }
    said = {name: summary.get(name) for name in expected}
    found = [] if said == expected else [f"{said}, the ledger {expected}"]
    named = summary.get("evaluators", [])  # older ones have none
    return found if named == evaluators else [*found, f"evaluators {named}, the ledger {evaluators}"]
