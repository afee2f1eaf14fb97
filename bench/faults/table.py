"""The table of a measurement: as Markdown, and with rich for a terminal and the picture."""

from rich.table import Table
from rich.text import Text

from bench.faults.game import GENOMES, NORMAL_S, TIME_LIMIT_S, WORKERS
from bench.faults.judgement import Grade, judge
from bench.faults.measurement import SYSTEMS, Cell, Measurement

#: Two lines for the head of a column.
HEADS = {
    "none": "nothing\nwrong",
    "raise": "genome\nraises",
    "exit": "exits\nprocess",
    "crash": "crashes\nprocess",
    "leak": "leaks\nmemory",
    "hang": "hangs",
    "late": "late,\n12 s",
    "innocent": "worker\nkilled",
    "program": "program\nkilled",
}
STYLES = {Grade.GOOD: "green", Grade.PARTIAL: "yellow", Grade.BAD: "red", Grade.UNKNOWN: "dim"}


def as_markdown(measurement: Measurement) -> str:
    """One row for each system, and what it was measured with."""
    faults = measurement.faults
    lines = [["system", *faults, "left running"], ["---"] * (len(faults) + 2)]
    for name in measurement.systems:
        cells = [str(judge(measurement.cell(name, fault))) for fault in faults]
        lines.append([_title(name), *cells, str(_left_running(measurement, name))])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{explained(measurement)}\n{versions(measurement)}"


def as_rich(measurement: Measurement) -> Table:
    """The same in colours, two lines for each row."""
    table = Table(box=None, padding=(0, 1, 1, 0), header_style="bold", pad_edge=False)
    table.add_column("fitnesses out of 40\nand seconds", width=20, no_wrap=True)
    for fault in measurement.faults:
        table.add_column(HEADS[fault], justify="right", width=9, no_wrap=True)
    for name in measurement.systems:
        title = Text.assemble((SYSTEMS[name].title, "bold"), "\n", (SYSTEMS[name].interface, "dim"))
        table.add_row(title, *(_cell(measurement.cell(name, fault)) for fault in measurement.faults))
    return table


def explained(measurement: Measurement) -> str:
    """What the words of the cells mean."""
    return (
        f"{GENOMES} genomes on {WORKERS} workers, {NORMAL_S:g} s each; limit {TIME_LIMIT_S:g} s where there is one. "
        f"never: still waiting after {measurement.deadline_s:g} s. "
        "named: exactly the culprit is reported. lost: genomes without a fitness that are not at fault. "
        "program: games played in both runs."
    )


def versions(measurement: Measurement) -> str:
    """Libraries, Python and machine in one line."""
    libraries = [
        f"{SYSTEMS[name].title} {version}" for name, version in measurement.versions.items() if _has_own_version(name)
    ]
    machine = f"Python {measurement.python}, {measurement.processors} processors, {measurement.platform}"
    return ", ".join([*libraries, machine])


def one_line(cell: Cell) -> str:
    """A cell for the progress of the measurement."""
    left = f", {cell.left_running} left running" if cell.left_running else ""
    return f"{cell.system}, {cell.fault}: {judge(cell)} ({cell.games} games{left})"


def _cell(cell: Cell | None) -> Text:
    words = judge(cell)
    got = "" if cell is not None and cell.fault == "program" else words.got.partition("/")[0]
    below = " ".join(filter(None, [got, words.cost]))
    return Text.assemble((words.verdict, STYLES[words.grade]), "\n", got, (below.removeprefix(got), "dim"))


def _left_running(measurement: Measurement, system: str) -> int:
    return sum(cell.left_running for cell in measurement.cells if cell.system == system)


def _title(system: str) -> str:
    return f"{SYSTEMS[system].title} {SYSTEMS[system].interface}"


def _has_own_version(system: str) -> bool:
    return bool(SYSTEMS[system].distribution)
