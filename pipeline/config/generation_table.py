"""The table of a generation in `pipeline.toml`, `[generation]`. Pure."""

from typing import Annotated, Literal

from msgspec import Meta

from inbox_agent.protocol.layout import GENOME_BYTES_MAX
from pipeline.config.machine_tables import ConfigTable
from pipeline.core.facts import Reuse, Seeds
from pipeline.core.retention import Keep

#: limits of the core that are set in `[generation]`
LIMITS_OF_GENERATION = ("attempts_max", "failures_max", "copy_stragglers")


class GenerationTable(ConfigTable, frozen=True, kw_only=True):
    """`[generation]`: how the genomes of a generation are evaluated."""

    trials_per_genome: Annotated[int, Meta(ge=1, le=1000)] = 3  #: games per genome; its fitness is their mean
    #: charges before a genome is poison: games of it that took their worker down
    attempts_max: Annotated[int, Meta(ge=1, le=1000)] = 3
    #: failures and time-outs of a trial before it is settled so; the last try needs another worker, if there is one
    failures_max: Annotated[int, Meta(ge=1, le=1000)] = 2
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0  #: all seeds of the games follow from it
    direction: Literal["maximize", "minimize"] = "maximize"  #: which fitness is the best one
    timed_out_fitness: float | None = None  #: the fitness of a trial that times out; unset: the trial fails
    seeds: Seeds = "per-generation"  #: `fixed`: all generations have the same seeds
    #: `same-seeds`: a genome of the generation before is not played again; needs `seeds = "fixed"`
    reuse: Reuse = "none"
    #: whether workers with different evaluators may play one generation; `results.csv` says which played what
    allow_mixed_evaluators: bool = False
    #: what is kept of a finished generation beside its tables: everything; logs and artifacts of attempts that did not
    #: complete; only the records of results; nothing else
    keep: Keep = "all"
    #: whether a game that lasts much longer than on an idle worker is played there as well; the first result counts
    copy_stragglers: bool = False
    #: larger genome files are refused
    genome_bytes_max: Annotated[int, Meta(ge=1, le=GENOME_BYTES_MAX)] = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.reuse == "same-seeds" and self.seeds != "fixed":
            raise ValueError('[generation] reuse = "same-seeds" needs seeds = "fixed": no others come back')
        if self.reuse != "none" and self.allow_mixed_evaluators:
            raise ValueError("[generation] reuse needs one evaluator; take allow_mixed_evaluators out")
