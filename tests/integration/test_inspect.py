"""Inspection: `top`, `status`, `explain`, `results` and `report` on one project with every outcome."""

import csv
import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from inbox_agent.protocol.layout import Outcome
from pipeline.cli import main
from pipeline.core.facts import GenomeAdded, RunFinished, RunOpened, WorkerOut
from pipeline.errors import ExitCode
from pipeline.inspection.project_reader import ProjectReader
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile, read_live_status
from pipeline.ui import terminal
from pipeline.ui.html import as_script_data, relative_url, render_page
from pipeline.ui.terminal import render_top
from pipeline.views.progress import measure_progress
from pipeline.views.ranking import ranked
from tests.harness.command_line import pipeline
from tests.harness.core import SETTINGS, VERSION, CoreHarness
from tests.programs.faulty_run import HOSTILE, OTHER_VERSION, faulty_project, mixed_project

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    faulty_project(root)
    return root


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stopped")
    faulty_project(root, generations=2, share=0.6)
    return root


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed")
    mixed_project(root)
    return root


def test_fixture_project_has_every_outcome(finished: Path) -> None:
    """Otherwise the tests below would show too little."""
    with ProjectReader(finished) as reader:
        farms = [reader.farm(generation) for generation in reader.generations()]
    met = {outcome for farm in farms for outcome in Outcome if farm.outcomes[outcome]}
    assert met == set(Outcome) - {Outcome.REJECTED}
    assert any(genome.charges for farm in farms for genome in farm.genomes)


# ------------------------------------------------------------------------------------------------------- the terminal


def shown(root: Path, width: int, *, colour: bool = False) -> str:
    with ProjectReader(root) as reader:
        generation = reader.latest()
        console = Console(
            width=width, file=io.StringIO(), force_terminal=colour, color_system="standard" if colour else None
        )
        console.print(render_top(reader.progress(generation), reader.history(generation), reader.farm(generation)))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_display_fits_terminal_width(stopped: Path, width: int) -> None:
    """No line is longer; every worker has its line; a wide one also shows losses and the last recovery action."""
    lines = shown(stopped, width).splitlines()

    assert max(map(cell_len, lines)) <= width
    for name in ("local-0", "vm-3"):
        assert any(line.startswith(name) for line in lines)
    assert ("recovery" in "\n".join(lines)) == (width >= 120)
    assert "no host plays it" in " ".join(" ".join(lines).split())


def test_no_escape_sequences_without_colour(finished: Path) -> None:
    """No escape sequence without colour, and none from the name of a genome with colour."""
    assert "\x1b" not in shown(finished, 80)
    assert "\x1b[31mred" not in shown(finished, 80, colour=True)
    assert "finished" in shown(finished, 80)


def test_top_without_terminal_prints_one_line(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a log."""
    code, out, _ = pipeline(capsys, "top", "--root", finished)

    assert code == ExitCode.OK
    assert out.startswith("generation 4: 72/72 trials, 66 completed")
    assert out.count("\n") == 1


def test_live_status_is_used_while_host_runs(stopped: Path) -> None:
    """The host's live status has more than the ledger; it is ignored as soon as the host is gone or stuck."""
    state = stopped / "state"
    with ProjectReader(stopped) as reader:
        generation = reader.latest()
        now = reader.progress(generation)
        live = LiveStatusFile(state)
        live.write({**{name: getattr(now, name) for name in now.__slots__}, "per_minute": 123.0, "playing": True})
        try:
            assert reader.is_playing(generation)
            assert not reader.is_playing(generation - 1)
            assert reader.progress(generation).per_minute == 123.0
            status = json.loads((state / "live.json").read_text())
            (state / "live.json").write_text(json.dumps({**status, "at": time.time() - 60}))
            assert read_live_status(state) is None
            (state / "live.json").write_text("{")
            assert not reader.is_playing(generation)
        finally:
            live.remove()
    assert not (state / "live.json").exists()


def test_reader_reads_only_new_facts(tmp_path: Path) -> None:
    """For a run that continues: the same farm with the new facts."""
    run = faulty_project(tmp_path, generations=1, share=0.5)
    with ProjectReader(tmp_path) as reader:
        before, facts = reader.farm(1).open_trials, reader.facts
        known = len(run.facts)
        while not run.table.farm.finished:
            run._step()
        run._keep()
        ledger = Ledger(tmp_path / "state")
        for generation, at, fact in run.facts[known:]:
            ledger.append([fact], at, generation, 1)
        ledger.close()

        assert reader.facts > facts
        assert reader.farm(1).finished and before
        assert isinstance(reader.history(1)[-1].fact, RunFinished)


# ------------------------------------------------------------------------------------------------- explain, results


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("bot-01-013.json", "It is charged with the loss of g0001-0013"),
        ("bot-01-009.json", "ValueError: <b>bad</b> opcode"),
        ("vm-1", "In this generation it was given"),
    ],
)
def test_explain_genome_or_worker(finished: Path, capsys: pytest.CaptureFixture[str], what: str, expected: str) -> None:
    """A genome or a worker of a generation."""
    code, out, _ = pipeline(capsys, "explain", what, "--gen", "1", "--root", finished)

    assert code == ExitCode.OK
    assert expected in out


@pytest.mark.parametrize("command", [("results",), ("status",), ("top", "--once"), ("explain", "local-0")])
def test_generation_that_was_never_run_is_answered_with_those_that_were(
    finished: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """All commands say it alike."""
    code, _, err = pipeline(capsys, *command, "--gen", "9", "--root", finished)

    assert code == ExitCode.BAD_INPUT
    assert err.endswith(f"{finished}: generation 9 was never run here; those that were: 1, 2, 3, 4\n")


def test_attempt_id_selects_its_generation(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ledger has the generation in which it was issued."""
    with ProjectReader(finished) as reader:
        attempt = next(iter(reader.farm(2).attempts))

    assert f"{attempt} is try 1" in pipeline(capsys, "explain", attempt, "--root", finished)[1]


@pytest.mark.parametrize("path", ["results/gen-0001/{}", "genomes/gen-0001/{}", "C:\\farm\\genomes\\gen-0001\\{}"])
def test_genome_path_selects_its_generation(finished: Path, capsys: pytest.CaptureFixture[str], path: str) -> None:
    """From the shell's completion: the folder is that of the generation."""
    out = pipeline(capsys, "explain", path.format("bot-01-013.json"), "--root", finished)[1]

    assert "It is charged with the loss of g0001-0013" in out


def test_genome_folder_wins_over_attempt_like_name(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name may look like an attempt of another generation."""
    err = pipeline(capsys, "explain", "genomes/gen-0001/g0002-bot.json", "--root", finished)[2]

    assert "no genome, attempt or worker of generation 1" in err


@pytest.mark.parametrize("name", ["{}", "{}.result.json", "state/shares/vm-1/outbox/{}.started.json"])
def test_attempt_is_found_by_any_of_its_files(finished: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """As they are found in a share."""
    with ProjectReader(finished) as reader:
        attempt = next(iter(reader.farm(1).attempts))

    assert f"{attempt} is try" in pipeline(capsys, "explain", name.format(attempt), "--root", finished)[1]


def test_unknown_name_gets_suggestion(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    code, _, err = pipeline(capsys, "explain", "VM-", "--root", finished)

    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert "did you mean" in err and "vm-1" in err


def test_hostile_names_are_escaped_in_terminal(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in tables nor in explanations."""
    for args in (("results", "--all"), ("explain", HOSTILE[2]), ("status",)):
        out = pipeline(capsys, *args, "--root", finished)[1]
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", out)


def test_results_are_sorted_by_fitness(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fittest first, those without a fitness last, also in reverse order."""
    rows = json.loads(pipeline(capsys, "results", "--json", "--root", finished)[1])
    fitness = [row["fitness"] for row in rows]
    known = [value for value in fitness if value is not None]

    assert known == sorted(known, reverse=True) and fitness[-1] is None
    worst = json.loads(pipeline(capsys, "results", "--json", "--reverse", "--root", finished)[1])
    assert worst[0]["fitness"] == known[-1] and worst[-1]["fitness"] is None
    assert len(pipeline(capsys, "results", "--top", "3", "--root", finished)[1].splitlines()) == 4


def test_results_of_all_generations_as_csv(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As CSV, by any column; no cell is a formula."""
    out = pipeline(capsys, "results", "--all", "--sort", "generation", "--csv", "--root", finished)[1]
    rows = list(csv.DictReader(io.StringIO(out)))

    assert [row["generation"] for row in rows] == sorted(row["generation"] for row in rows)
    assert len(rows) == 4 * 24
    assert not any(cell.startswith("=") for row in rows for cell in row.values())
    assert {"level", "score"} <= rows[0].keys()


def test_conflicting_result_formats_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two formats are refused instead of using the last one."""
    code, out, err = pipeline(capsys, "results", "--json", "--csv", "--root", finished)

    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "choose one" in err


def test_commands_without_run_print_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each command; without a project it names the command that creates one."""
    for command in ("top", "serve"):
        assert "pipeline init" in pipeline(capsys, command, "--root", tmp_path)[2]
    (tmp_path / "pipeline.toml").write_text("[local]\nworkers = 1\n[evaluator]\ncommand = ['play']\n")
    for args in (("top",), ("explain", "x"), ("results",), ("report",), ("status",)):
        code, _, err = pipeline(capsys, *args, "--root", tmp_path)
        assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
        assert "nothing was run here yet" in err


# -------------------------------------------------------------------------------------------------------- the report


def test_report_is_self_contained(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It loads no address, and no string of the data can end the script that contains it."""
    code, out, _ = pipeline(capsys, "report", "--root", finished)
    text = Path(out.strip()).read_text(encoding="utf-8")

    assert code == ExitCode.OK
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(?!data:)", text)
    data = text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["shown"] == 4
    assert not set("<>&\u2028") & set(data)
    assert "<img src=x" not in text


def test_report_has_all_generations(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They can be selected on the page."""
    pipeline(capsys, "report", "--all", "--out", tmp_path / "r.html", "--root", finished)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])

    assert data["generations"] == [1, 2, 3, 4]
    assert [one["generation"] for one in data["trend"]] == [1, 2, 3, 4]
    assert set(data["sheets"]) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("out", ["pipeline.toml", "-", "nowhere/report.html"])
def test_report_refuses_other_file_names(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    """The name has to end in .html, in an existing folder."""
    code, _, err = pipeline(capsys, "report", "--out", tmp_path / out, "--root", finished)

    assert (code, err.count("\n")) == (ExitCode.BAD_INPUT, 1)
    assert list(tmp_path.iterdir()) == []


def test_results_are_found_from_the_report(tmp_path: Path) -> None:
    """By a URL relative to the report, with what a URL would read otherwise escaped."""
    results = tmp_path / "results"

    assert relative_url(results, results / "report.html") == "."
    assert relative_url(results, tmp_path / "r.html") == "results"
    assert relative_url(tmp_path / "50% #1?", tmp_path / "a" / "b.html") == "../50%25%20%231%3F"


def test_script_data_is_escaped() -> None:
    """Whatever the data contain."""
    hostile = {"a": "</script><script>alert(1)//<!--\u2028&"}
    assert json.loads(as_script_data(hostile)) == hostile
    assert "<" not in as_script_data(hostile)
    assert render_page(hostile).count("</script>") == 3


def test_every_command_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """And where the project is."""
    for name in ("top", "explain", "results", "report", "serve"):
        assert name in main.commands.commands
        assert "--root" in pipeline(capsys, name, "--help")[1]


def test_share_text_is_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a log without a terminal: brackets and colons are unchanged, and no run ends because of them."""
    monkeypatch.setattr(terminal, "PLAIN_INTERVAL_S", 0.0)
    table = CoreHarness("w0", "w1")
    table.record(WorkerOut(worker="w0", reason="[/boom] [games] :x:"))
    console = Console(file=io.StringIO(), width=300)

    terminal.Monitor(console).show(measure_progress(table.farm, table.observed, 0.0))

    assert isinstance(console.file, io.StringIO)
    assert "w0 is out: [/boom] [games] :x:" in console.file.getvalue()


def test_metric_column_does_not_collide() -> None:
    """Also not with the column that only a table of several generations has."""
    table = CoreHarness("w0", genomes=1)
    table.run_until_ready()
    table.publish_result(table.claim("w0"), metrics={"generation": 42.0, "status": 1.0})
    table.tick()

    (row,) = ranked([table.farm], "fitness", minimize=False, reverse=False)

    assert (row["generation"], row["status"]) == (1, "completed")
    assert (row["metric_generation"], row["metric_status"]) == (42.0, 1.0)


def test_genome_named_like_attempt_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one of the latest generation; only a complete attempt id selects another one."""
    ledger = Ledger(tmp_path / "state")
    for generation in (1, 4):
        added = GenomeAdded(genome=1, name="g0001-elite.bin", suffix="", size_bytes=generation, sha256="0" * 64)
        ledger.append([RunOpened(generation=generation, run=1, settings=SETTINGS), added], 0.0, generation, 1)
    ledger.close()

    for path in ("g0001-elite.bin", "genomes/gen-0004/g0001-elite.bin/"):
        code, out, err = pipeline(capsys, "explain", path, "--root", tmp_path)
        assert (code, "4 bytes" in out) == (ExitCode.OK, True), err + out


# ---------------------------------------------------------------------------------------------------- the evaluator

MIXED = f"mixed: its fitness is of evaluators {VERSION}, {OTHER_VERSION}"
UNFIT = f"it plays evaluator {VERSION}, this generation is played by {OTHER_VERSION}"


def test_status_names_evaluators_and_unfit_worker(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with what may play and what has played; the worker's line says why it gets no work."""
    lines = pipeline(capsys, "status", "--root", mixed)[1].splitlines()

    assert f"evaluator: test, version {OTHER_VERSION}; {MIXED}" in lines
    assert f"vm-2: unfit, epoch 1, holds 0; {UNFIT}" in lines


def test_top_names_evaluators_and_unfit_worker(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the display, as far as its width allows, and in the line of a log."""
    screen = shown(mixed, 200)
    line = pipeline(capsys, "top", "--root", mixed)[1]

    assert f"evaluator: version {OTHER_VERSION}; {MIXED}" in screen
    assert re.search(rf"^vm-2 +unfit .* {UNFIT}", screen, re.MULTILINE)
    assert f"; vm-2 is unfit: {UNFIT}" in line and line.endswith(f"; {MIXED}\n")


def test_top_is_not_alarmed_by_one_evaluator(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"evaluator: version {VERSION}\n" in re.sub(" +\n", "\n", shown(finished, 80))
    assert "mixed" not in pipeline(capsys, "top", "--root", finished)[1]


def test_results_have_a_column_of_evaluators_if_there_are_several(
    mixed: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV and JSON always have it."""
    table = pipeline(capsys, "results", "--root", mixed)[1].splitlines()
    rows = csv.DictReader(io.StringIO(pipeline(capsys, "results", "--csv", "--root", mixed)[1]))

    assert table[0].split()[-1] == "evaluator"
    assert [line.split()[-1] for line in table[1:]] == [VERSION, OTHER_VERSION, OTHER_VERSION]
    assert [row["evaluator"] for row in rows] == [VERSION, OTHER_VERSION, OTHER_VERSION]
    assert "evaluator" not in pipeline(capsys, "results", "--root", finished)[1]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("g1", f"on vm-1 with evaluator {VERSION}: issued "),
        ("g3", f"on vm-1 with evaluator {OTHER_VERSION}: issued "),
        ("vm-2", f"vm-2 cannot play this generation: {UNFIT}; it gets work once "),
    ],
)
def test_explain_names_the_evaluator(mixed: Path, capsys: pytest.CaptureFixture[str], what: str, expected: str) -> None:
    """Of each attempt that was played, and what an unfit worker plays."""
    assert expected in pipeline(capsys, "explain", what, "--root", mixed)[1]


def test_report_names_evaluators_and_unfit_worker(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline(capsys, "report", "--out", tmp_path / "r.html", "--root", mixed)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    sheet = json.loads(text.partition('id="data">')[2].partition("</script>")[0])["sheets"]["1"]

    assert (sheet["mixed"], sheet["settings"]["evaluator"]) == (MIXED, f"test, version {OTHER_VERSION}; {MIXED}")
    assert [genome["evaluator"] for genome in sheet["genomes"]] == [VERSION, OTHER_VERSION, OTHER_VERSION]
    assert [(worker["state"], worker["why"]) for worker in sheet["workers"]] == [("ready", ""), ("unfit", UNFIT)]
