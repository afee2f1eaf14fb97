"""What the soak says about its samples: whether they are flat, the file that has them, the picture."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs.soak.flatness import longest_life, rises
from tests.programs.soak.picture import drawn
from tests.programs.soak.samples import Sample, read_samples, write_samples

FLAT = [
    Sample(
        seconds=10.0 * number,
        host_pid=100 + number // 100,
        host_mib=50.0,
        host_descriptors=30,
        host_threads=9,
        agents=4,
        agents_mib=200.0 if number % 3 else 110.0,
        agents_descriptors=80,
        agents_threads=20,
        page_mib=60.0,
        page_descriptors=12,
        page_threads=3,
        disk_limited_mib=2.0 + number % 40 / 10,
        disk_kept_mib=0.02 * number,
        cpu_percent=20.0,
        settled=7 * number,
    )
    for number in range(300)
]


def test_flat_samples_have_no_rises() -> None:
    """Although each moment has other values than the one before."""
    assert rises(FLAT) == []


@pytest.mark.parametrize("column", ["host_mib", "page_descriptors", "agents_threads", "disk_limited_mib"])
def test_column_that_grows_all_the_time_rises(column: str) -> None:
    leaking = [replace(sample, **{column: getattr(sample, column) * (1 + n / 100)}) for n, sample in enumerate(FLAT)]

    assert [line.partition(" ")[0] for line in rises(leaking)][:1] == [column]


def test_moment_of_a_fault_is_no_rise() -> None:
    """A tenth of the samples may be anything."""
    faulty = [replace(sample, host_mib=0.0 if n % 20 else 900.0) for n, sample in enumerate(FLAT) if n % 10 == 0]
    faulty += [sample for n, sample in enumerate(FLAT) if n % 10]

    assert rises(sorted(faulty, key=lambda sample: sample.seconds)) == []


def test_leak_of_each_watch_is_found_although_all_start_small() -> None:
    """A watch that is started again hides what the one before had."""
    leaking = [replace(sample, host_mib=40.0 + n % 100) for n, sample in enumerate(FLAT)]

    found = rises(leaking)

    assert len(longest_life(leaking)) == 100
    assert [line for line in found if line.startswith("host_mib rises, in the longest life of a watch")] == found


def test_rate_that_ends_is_named() -> None:
    stopped = [replace(sample, settled=min(sample.settled, 7 * 210)) for sample in FLAT]

    assert [line for line in rises(stopped) if line.startswith("the rate falls from 42.0 to 4.")]


def test_trials_that_leave_more_and_more_are_named() -> None:
    growing = [replace(sample, disk_kept_mib=0.001 * n * n) for n, sample in enumerate(FLAT)]

    assert [line.partition(" leaves")[0] for line in rises(growing)] == ["a trial"]


def test_short_run_is_not_judged() -> None:
    leaking = [replace(sample, host_mib=float(n)) for n, sample in enumerate(FLAT[:100])]

    assert rises(leaking) == []


def test_samples_are_read_as_written_without_last_line_that_was_cut_off(tmp_path: Path) -> None:
    """A soak may be killed while it writes."""
    path = tmp_path / "samples.csv"
    write_samples(path, FLAT)
    assert read_samples(path) == FLAT

    path.write_text(path.read_text()[:-20])

    assert read_samples(path) == FLAT[:-1]


def test_picture_has_a_panel_for_each_quantity_and_a_mark_for_each_start() -> None:
    root = ElementTree.fromstring(drawn(FLAT, "make soak HOURS=1"))
    tag = "{http://www.w3.org/2000/svg}"
    panels = ["memory, MiB", "open descriptors", "threads", "disk, MiB", "settled trials per minute"]

    texts = [text.text for text in root.iter(f"{tag}text")]
    assert set(panels) <= set(texts)
    assert "40 min" in texts
    starts = [line for line in root.iter(f"{tag}path") if line.get("class") == "start"]
    assert len(starts) == 2 * (len(panels) + 1)


def test_long_run_has_no_more_points_than_a_short_one() -> None:
    """Means of equal parts are drawn."""
    day = [replace(FLAT[0], seconds=10.0 * number) for number in range(8640)]
    root = ElementTree.fromstring(drawn(day, "make soak HOURS=24"))

    assert all(len(line.get("points", "").split()) <= 450 for line in root.iter("{http://www.w3.org/2000/svg}polyline"))
