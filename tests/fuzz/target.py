"""What a fuzz target is, and where its inputs are.

Imports nothing of the program: the fuzzer instruments modules while they are imported.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

#: Inputs that once raised an error that is not allowed, one folder per target.
FOUND = Path(__file__).with_name("found")
NAMES = (
    "evaluator_archives",
    "game_answers",
    "game_output",
    "guest_agent_answers",
    "ledger_rows",
    "live_status",
    "qmp_answers",
    "script_replies",
    "server_answers",
    "settings_files",
    "share_names",
    "share_records",
    "site_messages",
    "smb_answers",
    "winrm_envelopes",
)


@dataclass(frozen=True, slots=True)
class FuzzTarget:
    """One decoder."""

    decode: Callable[[bytes], None]  #: asserts what must hold for any value that it returns
    allowed: tuple[type[Exception], ...]  #: the errors by which the decoder refuses an input
    seeds: Callable[[], Iterator[bytes]]  #: valid and nearly valid inputs
    needs_posix: bool = False

    def accepts(self, data: bytes) -> bool:
        """Whether the decoder returns a value for this input. Raises only errors that are not allowed."""
        try:
            self.decode(data)
        except self.allowed as error:
            assert_shown(str(error))
            return False
        return True

    def run(self, data: bytes) -> None:
        """Decodes one input. Raises only errors that are not allowed."""
        self.accepts(data)


def assert_shown(message: str) -> None:
    """An error is one line that a terminal can show."""
    assert message.isprintable(), ascii(message)
    assert len(message) < 2000


def load(name: str) -> FuzzTarget:
    """The target of that module."""
    target = import_module(f"tests.fuzz.{name}").TARGET
    assert isinstance(target, FuzzTarget)
    return target


def corpus(name: str) -> Iterator[bytes]:
    """The inputs that a target starts with: its seeds, and what was found."""
    yield from load(name).seeds()
    for path in sorted((FOUND / name).glob("*")):
        yield path.read_bytes()
