"""`/metrics` of `pipeline serve`, over HTTP: its format, who may read it, and ledgers that appear, change or break."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.cli import main
from pipeline.core.facts import Fact
from pipeline.inspection import metrics_reader
from pipeline.inspection.metrics_reader import MetricsReader
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from pipeline.views.metrics import HistogramMetric, Metric
from pipeline.views.progress import measure_progress
from tests.harness.core import CoreHarness
from tests.harness.served_project import answer_of, here, served, status
from tests.harness.waiting import eventually
from tests.programs.faulty_run import HOSTILE, faulty_project

pytestmark = pytest.mark.timeout(60)
TOKEN = "a-token-of-16-characters"
CONFIG = "[local]\nworkers = 2\n[evaluator]\ncommand = ['play']\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no file that is open")
Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generations with every outcome, and hostile names."""
    root = tmp_path_factory.mktemp("metrics")
    faulty_project(root, generations=2)
    return root


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A project in which nothing was run."""
    (tmp_path / "pipeline.toml").write_text(CONFIG)
    return tmp_path


def samples(text: str) -> Samples:
    """The samples by name and values of the labels; the parser is that of Prometheus' own client."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(address: str, **headers: str) -> Samples:
    code, kind, text = answer_of(f"{here(address)}metrics", **headers)
    assert code == 200, text
    assert kind.startswith("text/plain; version=0.0.4")
    return samples(text)


def append(root: Path, generation: int, *facts: Fact, run: int = 1) -> None:
    """As a host does that commits these facts."""
    ledger = Ledger(root / "state")
    ledger.append(facts, time.time(), generation, run)
    ledger.close()


def begun(generation: int, *, genomes: int = 2) -> tuple[Fact, ...]:
    """The facts of a host that opens a generation."""
    return tuple(fact for fact, _ in CoreHarness("local-0", genomes=genomes, generation=generation).facts)


@contextmanager
def reading(root: Path) -> Iterator[MetricsReader]:
    reader = MetricsReader(root)
    yield reader
    reader.close()


def read(reader: MetricsReader) -> dict[str, Metric | HistogramMetric]:
    found = reader.read()
    assert not isinstance(found, str), found
    return {metric.name: metric for metric in found}


def value(reader: MetricsReader, name: str, *labels: str) -> float:
    metric = read(reader)[name]
    assert isinstance(metric, Metric)
    return metric.samples[labels]


# ---------------------------------------------------------------------------------------------------------- the answer


def test_counts_are_those_of_all_generations(project: Path) -> None:
    """Counted again from the facts; the parser of Prometheus' client reads them."""
    ledger = Ledger(project / "state", read_only=True)
    facts = [entry.fact for entry in ledger.entries()]
    ledger.close()
    ended = [type(fact).__name__ for fact in facts]
    with served(project) as address:
        found = scraped(address)

    def total(name: str) -> float:
        return sum(number for (sample, _), number in found.items() if sample == name)

    assert total("pipeline_trials_settled_total") == ended.count("TrialSettled") > 0
    assert total("pipeline_attempts_ended_total") == ended.count("AttemptEnded") > 0
    assert total("pipeline_recovery_actions_total") == ended.count("RecoveryStarted") > 0
    assert found["pipeline_generation", ()] == 2
    assert (
        found["pipeline_game_duration_seconds_bucket", ("+Inf",)] == found["pipeline_game_duration_seconds_count", ()]
    )
    assert found["pipeline_disk_free_bytes", ("state",)] > 0
    assert found["pipeline_ledger_bytes", ()] == (project / "state/ledger.db").stat().st_size


def test_nothing_of_a_guest_is_in_the_answer(project: Path) -> None:
    """Neither names of genomes nor reasons; the labels of workers are their names in the configuration."""
    with served(project) as address:
        text = answer_of(f"{address}metrics")[2]

    assert not [name for name in HOSTILE if name in text]
    assert "bot-" not in text and "\x1b" not in text
    workers = {labels[1] for name, labels in samples(text) if name == "pipeline_worker_state"}
    assert workers == {"local-0", "local-1", "vm-1", "vm-2", "vm-3"}
    assert len(text.splitlines()) < 200


def test_nothing_of_this_process_is_in_the_answer(project: Path) -> None:
    """Twice the same: no registry of the library collects anything in between."""
    with served(project) as address:
        first, second = scraped(address), scraped(address)

    assert first.keys() == second.keys()
    assert not [name for name, _ in first if not name.startswith("pipeline_")]


# -------------------------------------------------------------------------------------------------------------- access


def test_foreign_name_gets_no_metrics(project: Path) -> None:
    with served(project) as address:
        assert status(f"{address}metrics", Host="evil.example") == 400


def test_scraper_sends_the_token_as_bearer(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was given, however often the server is started; it is not printed. Any other one is refused."""
    monkeypatch.setenv("FARM_TOKEN", TOKEN)
    with served(project, "--host", "0.0.0.0", "--token", "env:FARM_TOKEN") as address:
        assert TOKEN not in address
        metrics = f"{here(address)}metrics"
        for wrong in (
            "",
            TOKEN,
            f"Basic {TOKEN}",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer ",
            "Bearer \xff",
        ):
            assert status(metrics, Authorization=wrong) == 401, wrong
        assert status(metrics) == 401
        assert scraped(address, Authorization=f"Bearer {TOKEN}")
        assert status(f"{here(address)}data", Authorization=f"bearer {TOKEN}") == 200


def test_token_counts_on_loopback_too_if_one_is_given(project: Path, tmp_path: Path) -> None:
    """Other users of the computer see nothing then."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    with served(project, "--token", f"file:{tmp_path / 'token'}") as address:
        assert status(f"{address}metrics") == status(address) == 401
        assert status(f"{address}metrics", Authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.parametrize("token", ["short", "with a space in it ...", "ümläute-ümläute-ümläute"])
def test_weak_token_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    """In one line that does not have it."""
    monkeypatch.setenv("FARM_TOKEN", token)

    assert main.run_commands(["serve", "--token", "env:FARM_TOKEN", "--root", str(project)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "at least 16 letters" in said and token not in said


# ---------------------------------------------------------------------------- ledgers that appear, change and break


def test_metrics_before_the_first_run(empty: Path) -> None:
    """The server starts, says that no host is playing, and finds the first generation when it is begun."""
    with served(empty) as address:
        before = scraped(address)
        assert before["pipeline_host_playing", ()] == 0
        assert before["pipeline_trials_settled_total", ("completed",)] == 0
        assert ("pipeline_generation", ()) not in before
        assert answer_of(f"{address}data")[0] == 404
        append(empty, 1, *begun(1))
        assert eventually(lambda: scraped(address).get(("pipeline_generation", ())) == 1)
        assert eventually(lambda: status(f"{address}data") == 200)


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 500])
def test_damaged_ledger_is_one_line(empty: Path, damage: bytes) -> None:
    """With the code that tells Prometheus that the scrape failed; once it can be read again, it is."""
    with served(empty) as address:
        (empty / "state").mkdir()
        (empty / "state" / "ledger.db").write_bytes(damage)
        code, kind, text = answer_of(f"{address}metrics")
        assert (code, text.count("\n"), text.isprintable()) == (503, 1, False)
        assert kind.startswith("text/plain") and text.startswith(f"{empty / 'state' / 'ledger.db'}: ")
        (empty / "state" / "ledger.db").unlink()
        append(empty, 1, *begun(1))
        assert scraped(address)["pipeline_generation", ()] == 1


@posix
def test_ledger_that_is_gone_is_no_farm_without_runs(empty: Path) -> None:
    """Zeros would look like a reset."""
    append(empty, 1, *begun(1))
    with reading(empty) as reader:
        assert value(reader, "pipeline_generation") == 1
        os.rename(empty / "state", empty / "aside")
        found = reader.read()
        assert isinstance(found, str) and "not there any more" in found
        os.rename(empty / "aside", empty / "state")
        assert value(reader, "pipeline_generation") == 1


@posix
def test_other_ledger_is_counted_anew(empty: Path) -> None:
    """Prometheus takes counters that fall for a reset."""
    append(empty, 1, *begun(1), *begun(1)[:1])
    with reading(empty) as reader:
        assert value(reader, "pipeline_host_starts_total") == 2
        os.rename(empty / "state", empty / "aside")
        append(empty, 1, *begun(1))
        assert value(reader, "pipeline_host_starts_total") == 1


def test_counters_go_on_while_the_generation_changes(empty: Path) -> None:
    """Gauges are of the one that a host plays; farms of the others are not kept in memory."""
    core = CoreHarness("local-0", genomes=2)
    core.play_all()
    append(empty, 1, *(fact for fact, _ in core.facts))
    with reading(empty) as reader:
        assert value(reader, "pipeline_trials_settled_total", "completed") == 2
        assert value(reader, "pipeline_generation_best_fitness") == 1.0
        for generation in (2, 3, 4):
            append(empty, generation, *begun(generation, genomes=3))
            assert value(reader, "pipeline_generation") == generation
            assert value(reader, "pipeline_generation_trials", "pending") == 3
            assert value(reader, "pipeline_trials_settled_total", "completed") == 2
            assert "pipeline_generation_best_fitness" not in read(reader)
        third = CoreHarness("local-0", genomes=3, generation=3)
        LiveStatusFile(empty / "state").write(measure_progress(third.farm, third.observed, third.now))
        assert value(reader, "pipeline_generation") == 3 and value(reader, "pipeline_host_playing") == 1
        LiveStatusFile(empty / "state").remove()
        assert value(reader, "pipeline_generation") == 4 and value(reader, "pipeline_host_playing") == 0
        assert reader._counted is not None
        assert list(reader._counted._known) == list(reader._counted._fitness._tallies) == [4]


def test_large_ledger_is_read_in_parts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that is still being read is no number; the next scrape goes on."""
    monkeypatch.setattr(metrics_reader, "READ_TIME_S", 0.0)
    with reading(project) as reader:
        first, second = reader.read(), reader.read()
        assert isinstance(first, str) and " 1 of " in first and first.endswith("ask again")
        assert isinstance(second, str) and " 2 of " in second
        monkeypatch.undo()
        with reading(project) as other:
            assert read(reader)["pipeline_attempts_ended_total"] == read(other)["pipeline_attempts_ended_total"]


def test_facts_that_contradict_each_other_are_one_line(empty: Path) -> None:
    append(empty, 1, *begun(1))
    with reading(empty) as reader:
        read(reader)
        settled = next(f for f in begun(1) if type(f).__name__ == "GenomeAdded")
        append(empty, 1, settled)
        found = reader.read()
    assert isinstance(found, str) and "contradict each other" in found and "\n" not in found
