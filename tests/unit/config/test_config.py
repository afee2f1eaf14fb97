"""`pipeline.toml`: its settings, and errors that are found before anything is started."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from inbox_agent.protocol import layout
from inbox_agent.settings import SettingsError, convert
from pipeline.cli.new_project import init
from pipeline.config import Config, load_config
from pipeline.core.facts import RunOpened, decode_fact, encode_fact
from pipeline.core.limits import Limits
from pipeline.errors import ConfigError
from tests.harness import records

pytestmark = pytest.mark.rules

PLAYABLE = {"command": ["play"]}
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX paths")


def config(**tables: Any) -> Config:
    return convert(tables, Config, "pipeline.toml")


def complaint(**tables: Any) -> str:
    """The one-line error for a configuration."""
    with pytest.raises(SettingsError) as error:
        config(**tables)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix("pipeline.toml: ")


def workers(*shares: str) -> list[dict[str, Any]]:
    return [{"name": f"vm-{number}", "share": share} for number, share in enumerate(shares)]


def test_empty_configuration_uses_defaults() -> None:
    """By default there is one local worker per core, and the limits are those of the core."""
    defaults = config()

    assert len(defaults.worker_names()) == os.cpu_count()
    assert defaults.core_limits() == Limits()
    assert defaults.generation.trials_per_genome == 3


def test_example_configuration_is_valid(tmp_path: Path) -> None:
    """The example project is valid, and its comments have the defaults."""
    init(tmp_path)

    example = load_config(tmp_path)

    assert example.local_names() == ["local-0", "local-1"]
    assert example.generation == Config().generation
    assert example.evaluator.is_playable


def test_missing_evaluator_is_reported(tmp_path: Path) -> None:
    """The error names the missing setting and how to write it."""
    with pytest.raises(ConfigError, match="there is none; `pipeline init` makes one"):
        load_config(tmp_path)

    assert load_config(tmp_path, check=False) == Config()


def test_configuration_without_worker_is_refused(tmp_path: Path) -> None:
    """A configuration without local or other workers is an error."""
    (tmp_path / "pipeline.toml").write_text("[local]\nworkers = 0\n")

    with pytest.raises(ConfigError, match="no worker at all"):
        load_config(tmp_path)


def test_configured_workers_replace_local_workers(tmp_path: Path) -> None:
    """With `[[worker]]` there are only as many local workers as configured; each worker has its own queue depth."""
    named = config(worker=[{"name": "vm-0", "share": "/mnt/vm-0", "queue_depth": 5}])
    assert named.worker_names() == ["vm-0"]

    both = config(worker=[{"name": "vm-0", "share": "/mnt/vm-0", "queue_depth": 5}], local={"workers": 1})
    assert both.queue_depths() == {"local-0": 2, "vm-0": 5}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"generations": {}}, "unknown key `generations`; the nearest valid key is `generation`"),
        ({"generation": {"trials": 3}}, "unknown key `trials` in [generation]; the nearest valid key is"),
        ({"limits": {"silence_limit": 3}}, "in [limits]; the nearest valid key is `silence_limit_s`"),
        ({"sites": {"agents": 3}}, "unknown key `agents` in [sites]; the nearest valid key is `agents_per_site`"),
        ({"local": {"worker": 3}}, "unknown key `worker` in [local]; the nearest valid key is `workers`"),
        ({"worker": [{"name": "a", "share": "b", "depth": 1}]}, "in [worker]; the nearest valid key is `queue_depth`"),
        ({"evaluator": {"cmd": ["x"]}}, "unknown key `cmd` in [evaluator]; the nearest valid key is `command`"),
    ],
)
def test_unknown_config_key_suggests_nearest(tables: dict[str, Any], expected: str) -> None:
    """In every table of the file."""
    assert expected in complaint(**tables)


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {"generation": {"trials_per_genome": "3"}},
            "`generation.trials_per_genome` must be a number; write 3, without quotes",
        ),
        ({"generation": {"trials_per_genome": 0}}, "Expected `int` >= 1 - at `generation.trials_per_genome`"),
        ({"generation": {"seed": True}}, "Expected `int`, got `bool` - at `generation.seed`"),
        ({"generation": {"direction": "up"}}, "Invalid enum value 'up' - at `generation.direction`"),
        ({"generation": {"genome_bytes_max": 2**40}}, "Expected `int` <= "),
        ({"local": {"workers": 2.5}}, "`local.workers` must be a whole number, and it is 2.5"),
        ({"worker": [{"name": "a"}]}, "worker 'a' has no share; give the path of its folder"),
        ({"hyperv": {"network": "192.168.77.0"}}, "has no room for machines; write it like 192.168.77.0/24"),
        ({"hyperv": {"host": "bad host!", "account": "a", "secret": "env:A"}}, "a name or an address is expected"),
        ({"hyperv": {"host": "hv1"}}, "[hyperv] host needs an account and a secret"),
        ({"hyperv": {"secret": "hunter2"}}, "[hyperv]: "),
        ({"worker": [{"name": "a", "machine": "vm-1"}]}, "there is no [hyperv] or [qemu] table"),
        ({"hyperv": {}, "qemu": {}}, "a farm's machines are of one kind"),
        ({"sites": {"cluster": "scheduler"}}, "cluster = 'scheduler': expected dask://HOST:PORT, or dask+tls://HOST"),
        ({"sites": {"cluster": "dask://s:1", "folder": "x"}}, "folder = 'x': expected an absolute path, or one that"),
        ({"sites": {}}, "missing required field `cluster` - at `sites`"),
        ({"qemu": {"accelerator": "vt-x"}}, "at `qemu.accelerator`"),
        (
            {"qemu": {}, "worker": [{"name": "a", "machine": "vm-1"}, {"name": "b", "machine": "vm-2"}]},
            "port 445 is another's; each QEMU machine has its own",
        ),
        ({"hooks": {"command": ["notify", "{evnt}"]}}, "{evnt} is no placeholder; there is {event}"),
        ({"hooks": {"silent_after_s": 60}}, "[hooks] silent_after_s needs a command"),
        ({"hooks": {"command": ["notify"], "silent_after_s": 0}}, "at `hooks.silent_after_s`"),
        ({"settings": {"map": ["a"]}}, "got `array` - at `settings[...]`"),
        ({"limits": {"silence_limit_s": float("nan")}}, "at `limits.silence_limit_s`"),
        ({"limits": {"losses_per_trial_max": 1}}, "losses_per_trial_max must not be below losses_max - at `limits`"),
    ],
)
def test_wrong_config_value_is_reported_with_key(tables: dict[str, Any], expected: str) -> None:
    """The error has the expected type, the value and the key."""
    assert expected in complaint(**tables)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", ".a", "-a", "ä", "a.b", "x" * 64, "a\n"])
def test_invalid_worker_name_is_refused(name: str) -> None:
    """The name is part of paths, records and tables."""
    assert complaint(worker=[{"name": name, "share": "x"}]).startswith("worker name ")


@pytest.mark.parametrize("name", ["a", "VM_1-b", "7", "x" * 63])
def test_plain_worker_name_is_accepted(name: str) -> None:
    """Letters, digits, - and _, at most 63."""
    assert config(worker=[{"name": name, "share": "x"}]).worker_names() == [name]


@pytest.mark.parametrize("name", ["vm-0", "VM-0", "local-0", "LOCAL-0"])
def test_worker_names_equal_but_for_case_are_refused(name: str) -> None:
    """Equal names are an error, also if they differ in case or if one is of a local worker."""
    both = [{"name": "vm-0", "share": "/mnt/a"}, {"name": name, "share": "/mnt/b"}]

    assert complaint(worker=both, local={"workers": 1}).startswith("two workers are named ")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\\srv\farm\vm-0", r"\\srv\farm\vm-0"),
        (r"\\srv\farm\vm-0", "//SRV/Farm/VM-0/"),
        (r"\\srv\farm\vm-0", "\\\\srv\\farm\\vm-0\\"),
        pytest.param(
            r"\\srv\farm\vm-0",
            r"\\srv\farm\.\vm-0",
        ),
        pytest.param(
            r"\\srv\farm\vm-0",
            r"\\srv\farm\\vm-0",
        ),
    ],
)
def test_same_server_share_twice_is_refused(one: str, other: str) -> None:
    """Case, direction of slashes and `..` do not make another share."""
    assert "'vm-0' and 'vm-1' have the same share" in complaint(worker=workers(one, other))


def test_same_local_share_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trailing slashes, `..` and relative paths do not make another share."""
    monkeypatch.chdir(tmp_path)
    for other in (f"{tmp_path}/vm/", f"{tmp_path}/vm/../vm", f"{tmp_path}/./vm", "vm", "./vm"):
        assert "have the same share" in complaint(worker=workers(str(tmp_path / "vm"), other))


@posix
def test_same_share_through_link_is_refused(tmp_path: Path) -> None:
    """Two paths to one folder are the same share."""
    (tmp_path / "vm").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "vm")

    assert "have the same share" in complaint(worker=workers(str(tmp_path / "vm"), str(tmp_path / "link")))


def test_different_shares_are_accepted(tmp_path: Path) -> None:
    """Different shares on one server or disk are distinguished."""
    shares = workers(r"\\srv\farm\vm-0", r"\\srv\farm\vm-1", r"\\srv2\farm\vm-0", str(tmp_path), str(tmp_path / "vm"))

    assert len(config(worker=shares).worker_names()) == 5


def test_empty_share_is_refused() -> None:
    """It would be the current folder of the command."""
    assert "share" in complaint(worker=workers(""))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1.1e300, -1.1e300])
def test_timed_out_fitness_must_be_finite(value: float) -> None:
    """`-inf` seems the natural worst value, but neither the ledger nor a result can store it."""
    assert "timed_out_fitness" in complaint(generation={"timed_out_fitness": value})


@pytest.mark.parametrize(
    "settings",
    [
        {"wind": float("inf")},
        {"wind": float("nan")},
        {"timed_out_fitness": float("inf")},
        {"seed": 2**53 + 1},
        {"x" * 65: 1},
        {"": 1},
        {f"key-{number}": number for number in range(layout.SETTINGS_MAX + 1)},
        {"map": "x" * layout.RECORD_BYTES_MAX},
        {"map": "x" * 1001},
        {f"key-{number}": "x" * 1000 for number in range(33)},
        {"seed": 2**70},
    ],
    ids=[
        *(
            "inf",
            "nan",
            "inf under a name of another table",
            "too large a number",
            "too long a name",
            "no name",
            "too many",
            "too much",
        ),
        *("too long a text", "too much together", "a number beyond 64 bits"),
    ],
)
def test_settings_too_large_for_start_signal_are_refused(settings: dict[str, Any]) -> None:
    """The error comes before the first publication would fail."""
    assert complaint(settings=settings)


def test_accepted_settings_fit_start_signal() -> None:
    """Text, numbers and booleans are unchanged in a start signal."""
    settings = {"map": "Ⅸ" * 1000, "fast": True, "level": -(2**53), "speed": 1e300, "x" * 64: 2**53}
    start = records.start(settings=config(settings=settings).settings)

    assert layout.decode(layout.StartRecord, layout.encode(start), "x").settings == settings


def test_run_settings_round_trip_through_ledger() -> None:
    """Settings are compared with those of the first run, so the ledger must return them unchanged, in any order."""
    one = config(settings={"b": 1.0, "a": 0.1}, evaluator=PLAYABLE, generation={"timed_out_fitness": -1e300})
    other = config(settings={"a": 0.1, "b": 1.0}, evaluator=PLAYABLE, generation={"timed_out_fitness": -1e300})
    fact = RunOpened(generation=1, run=1, settings=one.run_settings())

    assert decode_fact(encode_fact(fact)) == fact
    assert one.run_settings() == other.run_settings()


def test_limits_of_generation_count() -> None:
    """`[generation] attempts_max` and `failures_max` override the defaults."""
    table = {"attempts_max": 7, "failures_max": 5}
    rules = config(generation=table, limits={"silence_limit_s": 5.0}).core_limits()

    assert (rules.attempts_max, rules.failures_max, rules.silence_limit_s) == (7, 5, 5.0)


@pytest.mark.parametrize("name", ["attempts_max", "failures_max"])
def test_limit_of_generation_in_limits_is_refused(name: str) -> None:
    """It is a rule of the generation; in the other table it would have no effect."""
    assert f"{name}: it stands under [generation]" in complaint(limits={name: 1})


@pytest.mark.parametrize("number", [0, -1, 1001, 1.5])
def test_failures_max_is_a_count(number: float) -> None:
    """A trial is tried at least once."""
    assert "failures_max" in complaint(generation={"failures_max": number})


def test_sites_replace_local_workers(tmp_path: Path) -> None:
    """As a `[[worker]]` does; with a number in `[local]` there are both."""
    (tmp_path / "pipeline.toml").write_text('[evaluator]\npython = "a:b"\n[sites]\ncluster = "dask://s:8786"\n')
    assert load_config(tmp_path).worker_names() == []

    assert config(sites={"cluster": "dask://s:8786"}, local={"workers": 1}).worker_names() == ["local-0"]
