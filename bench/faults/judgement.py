"""What a cell means, in words and as a grade. Pure."""

from enum import Enum
from typing import NamedTuple

from bench.faults.game import CULPRIT, GENOME_AT_FAULT, GENOMES, WORKERS
from bench.faults.measurement import Cell

#: A worker may lose the game that it plays and the result of the one before.
LOST_GAMES_PER_WORKER = 2
COMPLETE = "complete"


class Grade(Enum):
    """How well a system did."""

    GOOD = "good"  #: every innocent genome has its fitness, and a culprit without one is named
    PARTIAL = "partial"  #: so, but the culprit is not named, or many games were played twice
    BAD = "bad"  #: innocent genomes have no fitness
    UNKNOWN = "unknown"


class Judgement(NamedTuple):
    """A cell in words."""

    verdict: str  #: in one or two words
    got: str = ""  #: how many fitnesses the caller has
    cost: str = ""  #: how long it took; of a program that was run again, how many games both runs played
    grade: Grade = Grade.UNKNOWN

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.got, self.cost, "" if self.verdict == COMPLETE else self.verdict]))


def judge(cell: Cell | None) -> Judgement:
    """The words of a cell."""
    if cell is None or not cell.is_measured:
        return Judgement("not measured")
    if cell.end == "never":
        return Judgement("never", grade=Grade.BAD)
    got = f"{cell.fitnesses}/{GENOMES}"
    if cell.end == "died":
        return Judgement("died", got, grade=Grade.BAD)
    cost = f"{cell.games} games" if cell.fault == "program" else shown_s(cell.seconds)
    if lost := innocent_lost(cell):
        return Judgement(f"{lost} lost", got, cost, Grade.BAD)
    if cell.fitnesses == GENOMES:
        costly = cell.fault == "program" and repeated_games(cell) > LOST_GAMES_PER_WORKER * WORKERS
        return Judgement(COMPLETE, got, cost, Grade.PARTIAL if costly else Grade.GOOD)
    if names_culprit(cell):
        return Judgement("named", got, cost, Grade.GOOD)
    return Judgement("not named", got, cost, Grade.PARTIAL)


def innocent_lost(cell: Cell) -> int:
    """How many genomes have no fitness though nothing is wrong with them."""
    may_lack = 1 if cell.fault in GENOME_AT_FAULT else 0
    return max(0, GENOMES - may_lack - cell.fitnesses)


def names_culprit(cell: Cell) -> bool:
    """Whether the system says of exactly the culprit that it failed."""
    return cell.failed == (CULPRIT,)


def repeated_games(cell: Cell) -> int:
    """How many games were played more than once."""
    return max(0, cell.games - GENOMES)


def shown_s(seconds: float) -> str:
    """Seconds with two or three digits."""
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
