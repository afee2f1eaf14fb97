"""`make pictures`: draws the pictures of the documents: terminals, the page, the report, the faults, the soak."""

import io
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from docs.pictures import faults, soak
from pipeline import Evaluator, OpenFarm, Progress, open_farm
from pipeline.inspection.page_data import page_data
from pipeline.inspection.project_reader import ProjectReader
from pipeline.storage.live_status import LiveStatusFile
from pipeline.ui.display import RunDisplay
from pipeline.ui.html import render_page
from pipeline.ui.terminal import render_top
from pipeline.views.fitness_history import FitnessHistory
from pipeline.views.progress import measure_progress
from tests.programs.faulty_run import FaultyRun, faulty_project
from tests.programs.system_programs import find

HERE = Path(__file__).parent

GAME = """
import random, time

def play(genome_path, trial):
    bot = open(genome_path).read()
    dice = random.Random(f"{bot}/{trial.seed}")
    for turn in range(1, 21):
        trial.progress(f"turn {turn} of 20")
        time.sleep(dice.uniform(0.02, 0.16))
    return dice.gauss(100 + 9 * int(bot.split()[0]), 15)
"""


def draw_run() -> None:
    """Plays four small generations, kills one agent in the last one, and draws the display after that."""
    console = _console(100, 30)
    shown: list[Progress] = []
    with tempfile.TemporaryDirectory() as root, _farm(Path(root)) as farm:
        for generation in range(1, 4):
            farm.evaluate(_bots(generation))

        def watch(now: Progress) -> None:
            if now.completed >= 8 and not shown:
                shown.append(now)
                pid = farm.workers[1].pid
                if pid is not None:
                    psutil.Process(pid).kill()
            elif now.completed >= 16 and now.lost and len(shown) < 2:
                shown.append(now)

        farm.evaluate(_bots(4), on_progress=watch)
    console.print(RunDisplay(shown[-1]))
    console.save_svg(str(HERE / "run.svg"), title="pipeline run --gen 4")


def _bots(generation: int) -> dict[str, bytes]:
    return {f"bot-{number:03d}.json": f"{generation} {number}".encode() for number in range(24)}


def _farm(root: Path) -> AbstractContextManager[OpenFarm]:
    (root / "game.py").write_text(GAME)
    (root / "pipeline.toml").write_text("[limits]\nsilence_limit_s = 3.0\n")
    return open_farm(root, evaluator=Evaluator(python="game:play"), workers=4, trials_per_genome=1)


def draw_top(root: Path) -> None:
    """`pipeline top` on a generation that met every outcome, on a small and on a large terminal."""
    with ProjectReader(root) as reader:
        generation = reader.latest()
        for width, height in ((80, 24), (200, 50)):
            console = _console(width, height)
            now, history, farm = reader.progress(generation), reader.history(generation), reader.farm(generation)
            console.print(render_top(now, history, farm))
            console.save_svg(str(HERE / f"top-{width}.svg"), title="pipeline top")


def draw_pages(finished: Path, playing: Path, run: FaultyRun) -> None:
    """The report of a finished generation, and the page of one that is being played."""
    with ProjectReader(finished) as reader:
        (finished / "report.html").write_text(render_page(page_data(reader, reader.latest())), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "serve", "--port", "8766", "--root", str(playing)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server, sync_playwright() as playwright:
        assert server.stdout is not None
        address = server.stdout.readline().decode().strip()
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name, place, scheme in (
            ("report", (finished / "report.html").as_uri(), "light"),
            ("page", address, "dark"),
        ):
            page = browser.new_page(viewport={"width": 1240, "height": 1130}, color_scheme=scheme)
            _open(page, place)
            if name == "page":
                _play_on(playing, run)  # the page takes a status of ten seconds ago for that of a host that is gone
                page.reload()
                page.wait_for_selector("#now", state="visible")
                page.wait_for_timeout(500)
            page.screenshot(path=str(HERE / f"{name}.png"))
        browser.close()
        server.kill()


def _open(page: Page, place: str) -> None:
    for _ in range(20):
        try:
            page.goto(place)
            break
        except PlaywrightError:  # the server is not up yet
            time.sleep(0.5)
    page.wait_for_selector("body[data-shown]")
    page.wait_for_timeout(2500)


def _console(width: int, height: int) -> Console:
    return Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)


def _play_on(root: Path, run: FaultyRun) -> None:
    """Writes the live status of a running host."""
    fitness = FitnessHistory("maximize")
    for generation, _, fact in run.facts:
        fitness.note(generation, fact)
    shown = measure_progress(run.table.farm, run.table.observed, run.table.now, fitness)
    LiveStatusFile(root / "state").write(shown)


if __name__ == "__main__":
    faults.draw()
    soak.draw()
    draw_run()
    with tempfile.TemporaryDirectory() as folder:
        done, going = Path(folder) / "done", Path(folder) / "going"
        faulty_project(done, plain=True)
        half = faulty_project(Path(folder) / "once", share=0.33, plain=True, until_busy=True)
        half.write(going, later_s=time.time() - half.facts[-1][1])  # as if it were being played now
        long = faulty_project(Path(folder) / "once more", generations=12, share=0.5, plain=True, until_busy=True)
        long.write(Path(folder) / "long", later_s=time.time() - long.facts[-1][1])
        _play_on(Path(folder) / "long", long)
        draw_top(Path(folder) / "long")
        draw_pages(done, going, half)
