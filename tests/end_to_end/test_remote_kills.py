"""Generations that are submitted to a farm elsewhere, while its server and its client are killed for real."""

import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.core.model import trial_seed
from pipeline.errors import ExitCode
from pipeline.inspection.verify import exit_code, verify
from tests.harness.control_server import ControlServer, control_server
from tests.harness.farm_project import FarmProject
from tests.harness.games.game import fitness_of
from tests.harness.source_tree import ROOT
from tests.harness.waiting import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

GENERATIONS, GENOMES, KILLS_PER_GENERATION = 10, 12, 3
WITHIN_S = 200.0
#: A program that may be killed: the lines of its file say how far it is. Arguments: address, folder.
CLIENT = """
import json, sys
from collections import Counter
from functools import partial
from pathlib import Path
from pipeline.remote import connect
from tests.end_to_end.test_remote_kills import GENERATIONS, genomes

url, folder = sys.argv[1], Path(sys.argv[2])
done = folder / "done.jsonl"
with connect(url, token=f"file:{folder / 'token'}") as farm:
    for generation in range(len(done.read_text().splitlines()) + 1, GENERATIONS + 1):
        if generation % 2:
            scores = farm.evaluate(genomes(folder, generation), generation=generation)
        else:
            told, scores = Counter(), {}

            def tell(name, future):
                told[name] += 1
                scores[name] = future.result()

            with farm.open_generation(generation):
                for name, content in genomes(folder, generation).items():
                    farm.submit(content, name=name).add_done_callback(partial(tell, name))
            assert set(told.values()) == {1}, told
        with open(done, "a") as file:
            file.write(json.dumps({name: score.value for name, score in scores.items()}) + "\\n")
"""


def genomes(folder: Path, generation: int) -> Mapping[str, bytes]:
    """The genomes of a generation; one plays until its gate is opened."""
    found: dict[str, dict[str, object]] = {
        f"g{n:02d}": {"n": n, "generation": generation, "seconds": 0.02} for n in range(GENOMES)
    }
    found["gated"] = {"until": str(folder / f"gate-{generation}")}
    return {name: json.dumps(orders).encode() for name, orders in found.items()}


def start_client(server: ControlServer, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", CLIENT, server.url, str(folder)], cwd=ROOT)


def test_server_and_client_are_killed_thirty_times(project: FarmProject, tmp_path: Path) -> None:
    """Three times in each of ten generations, at any moment. Every genome is counted once, and no submit is doubled."""
    chance, pause = random.Random(25), threading.Event()
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "done.jsonl").touch()
    project.configure(workers=2, losses_max=50, losses_per_trial_max=50, attempts_max=50)
    with control_server(project.root) as server:
        (folder / "token").write_text(server.tokens["submit"])
        (folder / "token").chmod(0o600)
        client = start_client(server, folder)
        try:
            for kill in range(1, GENERATIONS * KILLS_PER_GENERATION + 1):
                pause.wait(chance.uniform(0.1, 2.0))
                assert client.poll() is None, "the client has ended by itself"
                if chance.random() < 0.5:
                    server.restart()
                else:
                    client.kill()
                    client.wait()
                    client = start_client(server, folder)
                if kill % KILLS_PER_GENERATION == 0:
                    (folder / f"gate-{kill // KILLS_PER_GENERATION}").touch()
            assert client.wait(WITHIN_S) == 0
        finally:
            client.kill()
            client.wait()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0

    told = [json.loads(line) for line in (folder / "done.jsonl").read_text().splitlines()]
    for generation, values in enumerate(told, 1):
        expected = genomes(folder, generation)
        seed = trial_seed(11, generation, 1)
        assert values == {name: fitness_of(content, seed) for name, content in expected.items()}
        project.assert_counted_once(generation=generation)
    assert len(told) == GENERATIONS
    assert exit_code(verify(project.root, None)) == ExitCode.OK
    assert eventually(lambda: not project.processes())
