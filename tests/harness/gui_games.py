"""Games of examples/gui_game on a farm: what is played, and checks of what came of it."""

import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.harness.farm_project import FarmProject
from tests.harness.source_tree import ROOT

EXAMPLE = ROOT / "examples" / "gui_game"
FUNCTION = "evaluator:play"
PADDLE = (80, 220, 120)  #: its colour
#: How the reason of each failed genome begins; the name of the genome is the fault that its game has.
REASONS = {
    "crash.json": "GameFault: crashed: ",
    "dialog.json": "GameFault: dialog: Catch has a problem",
    "hang.json": "GameFault: hung: its window has not responded for 4 s",
    "stall.json": "GameFault: stalled: no progress for 6 s",
}
SETTINGS = "[settings]\nballs = 2\nspeed = 320.0\n"
BESIDE = 150  #: pixels beside the ball: a policy that aims there catches none


def write_gui_project(
    project: FarmProject, games: int, *, extra: str = "", failures_max: int = 1, **limits: Any
) -> None:
    """The example with these many games that can be played and four that fail. Every second policy misses."""
    project.configure(
        evaluator=f'python = "{FUNCTION}"',
        time_limit_s=120.0,
        failures_max=failures_max,
        extra=SETTINGS + extra,
        **limits,
    )
    for path in EXAMPLE.glob("*.py"):
        (project.root / path.name).write_bytes(path.read_bytes())
    genomes = {f"g{n:02d}.json": {"aim": BESIDE * (n % 2), "dead_zone": 6} for n in range(games)}
    faults = {name: {"aim": 0, "dead_zone": 6, "fault": Path(name).stem} for name in REASONS}
    project.add_genomes({**genomes, **faults})


def assert_played(project: FarmProject, games: int, killed: Collection[str] = ()) -> None:
    """Each genome is counted once, each fault is named, each game left a picture, and `verify` counts the same. Of the
    `killed` attempts no picture is expected."""
    rows, attempts = project.results(), project.attempts()
    assert {name: row["status"] for name, row in rows.items()} == {
        **{f"g{n:02d}.json": "completed" for n in range(games)},
        **dict.fromkeys(REASONS, "failed"),
    }
    for name, reason in REASONS.items():
        assert reason in rows[name]["reason"], rows[name]["reason"]
    fitness = [float(rows[f"g{n:02d}.json"]["fitness"]) for n in range(games)]
    assert set(fitness[1::2]) == {0.0}, "a policy that aims beside the ball cannot catch it"
    assert sum(fitness[::2]) >= 0.5 * len(fitness[::2]), fitness  # a busy machine may be too slow for a ball
    summary = project.summary()
    counts = [summary[key] for key in ("submitted", "completed", "failed", "lost", "duplicated", "open")]
    assert counts == [games + len(REASONS), games, len(REASONS), 0, 0, 0]
    for attempt in (one for one in attempts if one["attempt"] not in killed):
        screen = artifact(project, attempt["attempt"], "screen.png")
        width, height = png_size(screen)
        assert width >= 640 and height >= 480, attempt["genome"]
        # The crash ended the window; the others were closed after their picture was taken.
        assert shows(screen, PADDLE) == (attempt["genome"] != "crash.json"), attempt["genome"]
        if attempt["genome"] == "crash.json":
            before = artifact(project, attempt["attempt"], "before.png")
            assert png_size(before) == (320, 240)
            assert shows(before, PADDLE)
    code, output = project.run("verify", "--gen", "1")
    assert code == 0, output


def artifact(project: FarmProject, attempt: str, name: str) -> bytes:
    """A file that a game left, from the host's archive."""
    (path,) = (path for path in (project.root / "results").rglob(name) if attempt in str(path))
    return path.read_bytes()


def shows(png: bytes, colour: tuple[int, int, int]) -> bool:
    """Whether a picture of three bytes for each pixel, without filters, has this colour."""
    at = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[at - 4 : at])
    return bytes(colour) * 2 in zlib.decompress(png[at + 4 : at + 4 + length])


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)
