"""Words of genomes, agents and games with every character that no terminal or table must get, in every command.

The ledger, the heartbeats and the share have them in every field, also where the rules of today refuse them: a ledger
may be of an earlier version.
"""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import category

import msgspec
import pytest
from rich.console import Console

from inbox_agent.evaluation.answer import finite_metrics
from inbox_agent.protocol import layout
from inbox_agent.protocol.layout import AgentState, EvaluatorRecord, LayoutError, ResultRecord
from inbox_agent.protocol.printable import has_hidden
from pipeline.core.facts import Fact, GenomeAdded
from pipeline.core.farm import Farm
from pipeline.host.outputs import Outputs
from pipeline.inspection.page_data import page_data
from pipeline.inspection.project_reader import ProjectReader
from pipeline.storage.event_log import EventLog
from pipeline.storage.ledger import Ledger
from pipeline.storage.live_status import LiveStatusFile
from pipeline.ui.terminal import Monitor, render_top
from pipeline.views.fact_text import joined_text
from pipeline.views.progress import Progress, measure_progress
from tests.harness import records
from tests.harness.command_line import pipeline
from tests.programs.faulty_run import BEGAN_AT, FaultyRun

pytestmark = pytest.mark.timeout(120)

CHARACTERS = [c for n in range(sys.maxunicode + 1) if not ((c := chr(n)).isprintable() or category(c) in ("Zs", "Cs"))]
#: Every control, format and separator character, and some of the many that no version of Unicode has.
HOSTILE = [c for c in CHARACTERS if ord(c) < 0x3000 or 0xFE00 <= ord(c) < 0x10000 or 0xE0000 <= ord(c) < 0xE0080]
WORD = "".join(f"{c}x" for c in HOSTILE)
#: Those of them that the protocol names: no version of Unicode has them as letters.
REFUSED = [
    c for c in HOSTILE if (kind := category(c)) in ("Cc", "Zl", "Zp") or (kind == "Cf" and 0x2000 <= ord(c) < 0x2070)
]
SHORT = "\x1b]52;c;eA==\x07\u202ex\u200b\x9b31m\r\u2028"
FREE_TEXTS = frozenset({"reason", "name", "text", "diagnosis"})


def hostile_fact(fact: Fact) -> Fact:
    """The same fact with hostile words in each field of free text, and in the names of metrics."""
    texts = FREE_TEXTS & {*fact.__struct_fields__}
    fields: dict[str, Any] = {field: f"{getattr(fact, field)}{WORD}" for field in texts}
    if metrics := getattr(fact, "metrics", None):
        fields["metrics"] = {f"{name}{SHORT}": value for name, value in metrics.items()}
    if (settings := getattr(fact, "settings", None)) is not None:
        fields["settings"] = msgspec.structs.replace(settings, evaluator=f"play.py {WORD}")
    return msgspec.structs.replace(fact, **fields)


@pytest.fixture(scope="module")
def run() -> FaultyRun:
    """Two generations; the second one is being played."""
    run = FaultyRun(24, 2, seed=5)
    run.play()
    run.play(share=0.6)
    run.facts = [(generation, at, hostile_fact(fact)) for generation, at, fact in run.facts]
    return run


@pytest.fixture(scope="module")
def project(run: FaultyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with that ledger, its outputs, and a share whose agent writes hostile records."""
    root = tmp_path_factory.mktemp("hostile")
    run.write(root)
    share = root / "share"
    for folder in layout.FOLDERS:
        (share / folder).mkdir(parents=True, exist_ok=True)
    (share / "status/agent.json").write_bytes(layout.encode(hostile_heartbeat()))
    version = EvaluatorRecord(
        evaluator=records.VERSION, target=WORD[:1000], files={WORD[:200]: "0" * 16}, files_count=1
    )
    (share / "status/evaluator.json").write_bytes(layout.encode(version))
    (share / "inbox/1.host.json").write_bytes(layout.encode(records.host(worker=SHORT)))
    config = (root / "pipeline.toml").read_text()
    (root / "pipeline.toml").write_text(config.replace("/shares/vm-1", share.as_posix()))
    with ProjectReader(root) as reader:
        Outputs(root / "results" / "gen-0002").write(reader.farm(2))
    return root


def hostile_heartbeat(**fields: Any) -> layout.AgentRecord:
    return records.beat(
        **{
            "state": AgentState.BROKEN,
            "progress": WORD[:200],
            "problem": WORD[:500],
            "versions": {SHORT: SHORT},
            "session": SHORT,
            "desktop": SHORT,
            **fields,
        }
    )


def refuse(text: str) -> None:
    """Fails for a character that is not printable."""
    found = sorted({c for c in text if not (c.isprintable() or c == "\n" or category(c) == "Zs")})
    assert not found, [hex(ord(c)) for c in found]


def strings(value: object) -> Iterator[str]:
    """All texts in the data of a page."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def test_words_have_every_kind_of_character() -> None:
    """Escape, the control characters of 8 bits, bidirectional marks, those without a width, line separators."""
    assert {"\x1b", "\x9b", "\x00", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\U000e0041"} <= set(WORD)


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--gen", "1"),
        ("top", "--once"),
        ("results", "--all"),
        ("results", "--all", "--csv"),
        ("results", "--all", "--json"),
        ("explain", "vm-1"),
        ("explain", "vm-2", "--gen", "1"),
        ("explain", "no such name"),
        ("verify",),
        ("verify", "--gen", "1"),
        ("doctor", "-v"),
        ("report",),
    ],
    ids=" ".join,
)
def test_commands_print_nothing_hostile(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Neither on standard output nor in errors."""
    _code, out, err = pipeline(capsys, *words, "--root", project)

    assert out + err
    refuse(out)
    refuse(err)


def test_explanations_of_all_genomes_print_nothing_hostile(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of attempts."""
    with ProjectReader(project) as reader:
        farm = reader.farm(1)
        names = [genome.name for genome in farm.genomes] + list(farm.attempts)[:20]
    for name in names:
        code, out, err = pipeline(capsys, "explain", name, "--gen", "1", "--root", project)
        assert code == 0, err
        refuse(out)


def test_json_has_the_words_as_they_are(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In escapes, which a program reads back."""
    rows = json.loads(pipeline(capsys, "results", "--json", "--root", project)[1])

    assert any(WORD in row["genome"] for row in rows)


@pytest.mark.parametrize("name", ["results.csv", "attempts.csv", "summary.json"])
def test_files_of_results_have_nothing_hostile(project: Path, name: str) -> None:
    refuse((project / "results" / "gen-0002" / name).read_text(encoding="utf-8-sig"))


def test_page_has_nothing_hostile(project: Path) -> None:
    """The data of `report` and `serve`."""
    with ProjectReader(project) as reader:
        for text in strings(page_data(reader, 2, [1, 2])):
            refuse(text)


def live_progress(run: FaultyRun, farm: Farm) -> Progress:
    """What a host shows of a farm while each agent reports hostile words."""
    observed = run.table.observed
    for worker, seen in observed.workers.items():
        playing = next(iter(farm.workers[worker].wanted), None)
        seen.heartbeat = hostile_heartbeat(attempt=playing)
        seen.unknown = seen.heartbeat_problem = WORD
    return measure_progress(farm, observed, run.table.now + BEGAN_AT)


def test_display_of_run_has_nothing_hostile(run: FaultyRun, project: Path) -> None:
    """Lines for facts, and what agents report."""
    console = Console(file=io.StringIO(), width=300, height=60)
    with ProjectReader(project) as reader:
        farm = reader.farm(2)
        facts = [one.fact for one in reader.history(2)]

    Monitor(console).tell(facts, farm)
    console.print(render_top(live_progress(run, farm), (), farm))

    assert isinstance(console.file, io.StringIO)
    assert "x x" in console.file.getvalue()
    refuse(console.file.getvalue())
    with contextlib.closing(Ledger(project / "state", read_only=True)) as ledger:
        joined = [entry.fact for entry in ledger.entries_of(2) if isinstance(entry.fact, GenomeAdded)]
    assert joined
    refuse(joined_text(joined))


def test_status_of_running_host_has_nothing_hostile(
    run: FaultyRun, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What agents report comes from the file of the running host, which has nothing hostile either."""
    with ProjectReader(project) as reader:
        farm = reader.farm(2)
    live = LiveStatusFile(project / "state")
    live.write(live_progress(run, farm))
    try:
        refuse((project / "state" / "live.json").read_text(encoding="utf-8"))
        for words in (("status",), ("top", "--once")):
            code, out, err = pipeline(capsys, *words, "--root", project)
            assert code == 0, err
            refuse(out)
    finally:
        live.remove()


def test_event_log_has_nothing_hostile(run: FaultyRun, tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.write([fact for _generation, _at, fact in run.facts], BEGAN_AT, 1)
    log.close()

    refuse((tmp_path / "log" / "pipeline.jsonl").read_text(encoding="utf-8"))


def test_host_refuses_names_of_metrics_that_hide_something() -> None:
    """As the agent does, which can tell its user."""
    whole = layout.encode(records.result(metrics={"speedMARK": 1.0}))
    for character in HOSTILE:
        name = f"speed{character}"
        with pytest.raises(ValueError, match="printable"):
            finite_metrics({name: 1.0})
        if character in REFUSED:
            with pytest.raises(LayoutError):
                layout.decode(ResultRecord, whole.replace(b"MARK", json.dumps(character)[1:-1].encode()), "result.json")


@pytest.mark.parametrize("name", ["speed", "größe", "速度", "x²", "a b", "🏁", "e\u0301", "\u0627\u0644", "(m/s)"])
def test_host_takes_other_names_of_metrics(name: str) -> None:
    """In any language, also with accents of their own and from right to left."""
    result = records.result(metrics=finite_metrics({name: 1.0}))

    assert layout.decode(ResultRecord, layout.encode(result), "result.json").metrics == {name: 1.0}


def test_host_takes_every_name_that_an_agent_takes() -> None:
    """Their versions of Unicode may differ, so the host refuses no character that is printable in any."""
    assert [c for n in range(sys.maxunicode + 1) if (c := chr(n)).isprintable() and has_hidden(c)] == []
