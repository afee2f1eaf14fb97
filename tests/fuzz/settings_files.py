"""`pipeline.toml`, `agent.toml` and `agent.json`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from inbox_agent.arguments import AgentFile
from inbox_agent.settings import SettingsError, read_settings
from pipeline.cli.new_project import EXAMPLE
from pipeline.config import Config, load_config
from pipeline.errors import ConfigError
from tests.fuzz.target import FuzzTarget
from tests.harness.source_tree import ROOT

_FILES = ("agent.toml", "agent.json", "pipeline.toml")
_PLACE = tempfile.TemporaryDirectory(prefix="fuzz-settings-")


def _decode(data: bytes) -> None:
    folder = Path(_PLACE.name)
    refused: list[ConfigError | SettingsError] = []
    for name in _FILES:
        (folder / name).write_bytes(data)
        try:
            if name == "pipeline.toml":
                assert isinstance(load_config(folder), Config)
            else:
                assert isinstance(read_settings(folder / name, AgentFile), AgentFile)
        except (ConfigError, SettingsError) as error:
            assert str(error).isprintable()
            refused.append(error)
    if len(refused) == len(_FILES):
        raise refused[0]


def _seeds() -> Iterator[bytes]:
    project = Path(str(EXAMPLE)) / "pipeline.toml"
    yield project.read_bytes()
    yield project.read_text(encoding="utf-8").encode("utf-16")
    reference = (ROOT / "docs/how-to/hyper-v.md").read_text(encoding="utf-8")
    yield from (block.partition("```")[0].encode() for block in reference.split("```toml\n")[1:])
    yield b'[evaluator]\ncommand = ["bot", "{genome}"]\nfiles = ["*.lua"]\n[evaluator.environment]\nset = {A = "b"}\n'
    yield b'{"evaluator": {"python": "mod:fun", "version": "1", "time_limit_s": 1e3}}'
    yield b'[local]\nworkers = "2"\n[settings]\na = inf\n"b\\u001b" = 1979-05-27T07:32:00Z\n'
    yield b'[[worker]]\nname = "C:\\temp"\nshare = \'\\\\vm-1\\exchange\'\nsecret = "env:X"\n'
    yield b"a = " + b"[" * 5000


TARGET = FuzzTarget(_decode, (ConfigError, SettingsError), _seeds)
