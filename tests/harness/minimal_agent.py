"""A second agent, written from share_layout.md alone, with a switch for each fault that the conformance kit must find.

`minimal_agent.py SHARE STATE [--fault NAME] -- PROGRAM ARGUMENT…`: plays PROGRAM ARGUMENT… GENOME RESULT SEED TRIAL
SETTINGS. It imports nothing of this project, and psutil only to end processes.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FAULTS = (
    "any_version",
    "late_claim",
    "wrong_seed",
    "never_cleans",
    "cleans_result_first",
    "ignores_withdrawal",
    "any_worker",
    "no_digest",
    "half_written",
    "foreign_farm",
    "second_agent",
    "plays_twice",
    "never_interrupted",
    "interrupted_late",
    "removes_unknown",
    "newest_first",
    "no_time_limit",
    "cuts_in_utf_16",
    "claims_unowned",
    "trusts_signals",
    "ignores_end",
    "keeps_last_owner",
    "leaves_processes",
)
FAULT = ""
BEAT_S, POLL_S, READINGS, AGAIN_S = 0.5, 0.05, 5, 1.0
VERSION = "minimal-1"
ATTEMPT = re.compile(r"g[0-9]{4,9}-[0-9]{4,9}-t[0-9]{1,6}-a[0-9]{1,6}-[0-9a-z]{12}")
SUFFIXES = (".start.json", ".genome", ".started.json", ".result.json", ".log", ".files")
TOKEN = re.compile(r"[0-9a-zA-Z_.:-]{1,64}")


class Damaged(Exception):
    """A record that is not valid."""


class OtherLayout(Exception):
    """A complete record of another version."""


# -------------------------------------------------------------------------------------------------- reading of records


def whole(lowest: int, highest: int) -> Any:
    return lambda value: type(value) is int and lowest <= value <= highest


def text(lowest: int, highest: int) -> Any:
    return lambda value: isinstance(value, str) and lowest <= len(value) <= highest


def form(pattern: re.Pattern[str]) -> Any:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(float(value))
    except OverflowError:
        return False


def setting(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= 1000
    return whole(-(2**53), 2**53)(value) if type(value) is int else isinstance(value, bool) or number(value)


def settings(value: Any) -> bool:
    is_table = isinstance(value, Pairs) and len(dict(value)) <= 64
    return is_table and all(text(1, 64)(name) and setting(inner) for name, inner in value)


POSITIVE = whole(1, 999_999_999)
OWNER = {"farm": form(TOKEN), "worker": text(1, 64), "epoch": POSITIVE}
SIGNAL = {
    **OWNER,
    "publication": POSITIVE,
    "attempt": form(ATTEMPT),
    "trial": POSITIVE,
    "seed": whole(0, 2**31 - 1),
    "time_limit_s": lambda value: number(value) and 0 < value <= 604_800,
    "genome_name": text(0, 255),
    "genome_suffix": form(re.compile(r"(\.[a-z0-9]{1,16})?")),
    "genome_bytes": whole(1, 268_435_456),
    "genome_sha256": form(re.compile(r"[0-9a-f]{64}")),
}
OPTIONAL = {
    "settings": settings,
    "evaluator": lambda value: value is None or form(TOKEN)(value),
    "new_process": lambda value: isinstance(value, bool),
    "alone": lambda value: isinstance(value, bool),
}


class Pairs(list[tuple[str, Any]]):
    """An object with all its fields, doubled ones too."""


def refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def read_record(path: Path, required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(65537)
        if len(data) > 65536 or data.startswith(b"\xef\xbb\xbf"):
            raise Damaged("too large, or with a byte order mark")
        pairs = json.loads(data.decode(), object_pairs_hook=Pairs, parse_constant=refuse)
        json.dumps(pairs, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path.name}: {error}") from error
    if not isinstance(pairs, Pairs):
        raise Damaged(f"{path.name}: no object")
    layouts = [value for name, value in pairs if name == "layout"]
    if not layouts or any(type(layout) is not int for layout in layouts):
        raise Damaged(f"{path.name}: no layout")
    if layouts[-1] != 2:
        raise OtherLayout(f"layout {str(layouts[-1])[:9]}")
    checks = {**required, **optional}
    bad = [name for name, value in pairs if name in checks and not checks[name](value)]
    bad = (bad if FAULT != "trusts_signals" else []) + [*(required.keys() - dict(pairs))]
    if bad:
        raise Damaged(f"{path.name}: {bad[0]}")
    found = dict(pairs)
    return {**found, "settings": dict(found.get("settings", {}))}


# ------------------------------------------------------------------------------------------------------------ the agent


class Agent:
    def __init__(self, share: Path, state: Path, command: list[str]) -> None:
        self.inbox, self.outbox, self.status = share / "inbox", share / "outbox", share / "status"
        self.state, self.command = state, command
        self.run_id, self.counter, self.beat_at, self.stopping = secrets.token_hex(8), 0, 0.0, False
        self.owner: dict[str, Any] | None = None
        self.beaten: dict[str, Any] | None = None
        self.is_first = True
        self.late: dict[str, dict[str, Any]] = {}
        self.tries: dict[str, tuple[int, float]] = {}
        self.playing: dict[str, Any] | None = None
        self.game: subprocess.Popen[bytes] | None = None
        for folder in (self.inbox / "tmp", self.outbox / "tmp", self.status):
            folder.mkdir(parents=True, exist_ok=True)
        self.be_the_only_one()
        self.end_leftovers()
        self.seen = self.other_heartbeat()

    def be_the_only_one(self) -> None:
        if FAULT == "second_agent":
            return
        self.lock = os.open(self.status / "agent.lock", os.O_RDWR | os.O_CREAT)
        try:
            if sys.platform == "win32":
                msvcrt.locking(self.lock, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("another agent holds the lock")

    def end_leftovers(self) -> None:
        note = self.state / "game.pid"
        if note.exists() and FAULT != "leaves_processes":
            pid, started = note.read_text(encoding="ascii").split()
            if sys.platform != "win32":
                for process in psutil.process_iter():
                    if os.getsid(process.pid) == int(pid):
                        process.kill()
            elif psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).create_time() == float(started):
                self.end_tree(int(pid))
            note.unlink()

    def end_tree(self, pid: int) -> None:
        try:
            family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, 5)

    # ------------------------------------------------------------------------------------------------ writing

    def publish(self, name: str, record: dict[str, Any]) -> None:
        data = (json.dumps(record, indent=2) + "\n").encode()
        final = self.outbox / name
        if FAULT == "half_written":
            with final.open("wb", buffering=0) as file:
                file.write(data[:100])
                file.write(data[100:])
            return
        staged = self.outbox / "tmp" / name
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # the second record of a name is dropped
            if sys.platform == "win32":
                while_busy(lambda: os.rename(staged, final))
            else:
                os.link(staged, final)
        staged.unlink(missing_ok=True)

    def beat(self) -> None:
        if time.monotonic() < self.beat_at and self.beaten == self.owner:
            return
        other = self.other_heartbeat()
        if FAULT != "second_agent" and other not in (None, self.seen):
            self.end("another agent beats on this share")
        self.counter += 1
        who = {name: self.owner[name] if self.owner else None for name in ("farm", "worker", "epoch")}
        if FAULT == "foreign_farm" and self.owner:
            who["farm"] = "my-own-farm"
        record = {
            "layout": 2,
            **who,
            **self.me(),
            "counter": self.counter,
            "state": "playing" if self.playing else "idle" if self.owner else "unowned",
            "attempt": self.playing["attempt"] if self.playing else None,
            "progress": self.progress(),
            "evaluator": VERSION,
        }
        new = self.status / "agent.json.new"
        new.write_text(json.dumps(record), encoding="utf-8")
        while_busy(lambda: os.replace(new, self.status / "agent.json"))
        self.beat_at, self.beaten = time.monotonic() + BEAT_S, self.owner

    def me(self) -> dict[str, str]:
        return {"boot_id": f"boot-{int(psutil.boot_time())}", "run_id": self.run_id}

    def other_heartbeat(self) -> tuple[str, int] | None:
        try:
            beat = json.loads((self.status / "agent.json").read_bytes())
        except (OSError, ValueError):
            return None
        is_other = beat.get("farm") is not None and beat.get("run_id") != self.run_id
        return (beat["run_id"], beat["counter"]) if is_other else None

    def progress(self) -> str:
        if not self.playing:
            return ""
        lines = self.read_log().decode("utf-8", "replace").splitlines()
        said = [line[10:] for line in lines if line.startswith("progress: ")]
        return cut(said[-1], 200) if said else ""

    # ------------------------------------------------------------------------------------------------ one round

    def round(self) -> None:
        names = os.listdir(self.inbox)
        epochs = [int(match[1]) for name in names if (match := re.fullmatch(r"([1-9][0-9]{0,8})\.host\.json", name))]
        try:
            self.owner = self.read_owner(max(epochs)) if epochs else None
        except OtherLayout:
            self.owner = None
        except Damaged:
            if FAULT != "keeps_last_owner":
                return  # begin nothing, remove nothing, do not beat
        if self.owner is not None or FAULT == "claims_unowned":
            self.act(names)
        self.beat()

    def read_owner(self, epoch: int) -> dict[str, Any]:
        owner = read_record(self.inbox / f"{epoch}.host.json", OWNER, {})
        if owner["epoch"] != epoch:
            raise Damaged("another epoch")
        return owner

    def act(self, names: list[str]) -> None:
        outbox = self.list_outbox()
        listed = {attempt for name in names if (attempt := of(name, ".start.json"))}
        present = listed | {attempt for attempt in outbox if (self.inbox / f"{attempt}.start.json").exists()}
        if self.playing and self.playing["attempt"] not in present and FAULT != "ignores_withdrawal":
            self.stop_game()
        running = self.playing["attempt"] if self.playing else None
        for attempt in outbox.keys() - present - {running}:
            self.clean(attempt, outbox.pop(attempt))
        if FAULT == "removes_unknown":
            for name in os.listdir(self.outbox):
                if not name.startswith("g") and name != "tmp":
                    (self.outbox / name).unlink()
        for attempt in sorted(outbox):
            if ".started.json" in outbox[attempt] and ".result.json" not in outbox[attempt] and attempt != running:
                self.answer_claim(attempt)
                outbox[attempt].add(".result.json")
        if self.is_first:
            self.is_first = False
            for path in (self.outbox / "tmp").iterdir():
                path.unlink()
        untouched = listed if FAULT == "plays_twice" and self.counter == 0 else listed - outbox.keys()
        signals = [one for attempt in sorted(untouched) if (one := self.signal(attempt))]
        if not self.playing and signals:
            self.claim(min(signals, key=lambda one: one["publication"] * (-1 if FAULT == "newest_first" else 1)))

    def list_outbox(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name in os.listdir(self.outbox):
            for suffix in SUFFIXES:
                if attempt := of(name, suffix):
                    found.setdefault(attempt, set()).add(suffix)
        return found

    def clean(self, attempt: str, suffixes: set[str]) -> None:
        order = [".started.json", ".result.json", ".log"]
        if FAULT == "never_cleans":
            return
        if FAULT == "cleans_result_first":
            order.reverse()
        for suffix in order:
            path = self.outbox / f"{attempt}{suffix}"
            while_busy(lambda path=path: path.unlink(missing_ok=True))  # type: ignore[misc]
        shutil.rmtree(self.outbox / f"{attempt}.files", ignore_errors=True)

    def answer_claim(self, attempt: str) -> None:
        if FAULT == "never_interrupted":
            return
        try:
            signal_of = read_record(self.inbox / f"{attempt}.start.json", SIGNAL, OPTIONAL)
        except (Damaged, OtherLayout):
            if FAULT == "interrupted_late":
                return
            signal_of = None
        if signal_of is not None and not self.is_owners(signal_of):
            return
        if not self.is_first:
            self.end(f"{attempt} was claimed by another agent")
        self.report(attempt, signal_of, "interrupted", "the agent restarted")

    def signal(self, attempt: str) -> dict[str, Any] | None:
        """A start signal that can be played; one that cannot is reported, at once or after some readings."""
        if self.tries.get(attempt, (0, 0.0))[1] > time.monotonic():
            return None
        try:
            found = read_record(self.inbox / f"{attempt}.start.json", SIGNAL, OPTIONAL)
            if found["attempt"] != attempt and FAULT != "trusts_signals":
                raise Damaged("another attempt")
        except OtherLayout as error:
            self.report(attempt, None, "rejected", str(error))
            return None
        except Damaged as error:
            self.not_yet(attempt, None, str(error))
            return None
        fits = found.get("evaluator") in (None, VERSION) or FAULT == "any_version"
        return found if fits and (self.is_owners(found) or FAULT == "claims_unowned") else None

    def is_owners(self, signal_of: dict[str, Any]) -> bool:
        return self.owner is not None and all(
            signal_of[name] == self.owner[name] or (name == "worker" and FAULT == "any_worker")
            for name in ("farm", "worker", "epoch")
        )

    def not_yet(self, attempt: str, signal_of: dict[str, Any] | None, reason: str) -> None:
        tries = self.tries.get(attempt, (0, 0.0))[0] + 1
        self.tries[attempt] = (tries, time.monotonic() + AGAIN_S)
        if tries == READINGS:
            self.report(attempt, signal_of, "undelivered", reason)

    def claim(self, start: dict[str, Any]) -> None:
        attempt = start["attempt"]
        try:
            genome = (self.inbox / f"{attempt}.genome").read_bytes()
        except OSError as error:
            self.not_yet(attempt, start, str(error))
            return
        if hashlib.sha256(genome).hexdigest() != start["genome_sha256"] and FAULT != "no_digest":
            self.not_yet(attempt, start, "another digest")
            return
        owner = {name: start[name] for name in ("farm", "worker", "epoch")}
        claim = {"layout": 2, **owner, "attempt": attempt, "evaluator": VERSION, **self.me()}
        self.late = {f"{attempt}.started.json": claim} if FAULT == "late_claim" else {}
        if not self.late:
            self.publish(f"{attempt}.started.json", claim)
        self.begin(start, genome)

    # ------------------------------------------------------------------------------------------------ the game

    def begin(self, start: dict[str, Any], genome: bytes) -> None:
        self.scratch = self.state / "scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        place = self.scratch / f"genome{start['genome_suffix']}"
        place.write_bytes(genome)
        (self.scratch / "settings.json").write_text(json.dumps(start["settings"]), encoding="utf-8")
        more = [place, self.scratch / "result.json", start["seed"], start["trial"], self.scratch / "settings.json"]
        with (self.state / "game.log").open("wb") as log:
            self.game = subprocess.Popen(
                [*self.command, *map(str, more)],
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = psutil.Process(self.game.pid).create_time()
        (self.state / "game.pid").write_text(f"{self.game.pid} {started}", encoding="ascii")
        self.playing, self.began = start, time.monotonic()

    def look_at_game(self) -> None:
        assert self.playing is not None and self.game is not None
        if self.game.poll() is not None:
            start, code = self.playing, self.game.returncode
            failure: tuple[None, dict[str, float], str] = (None, {}, f"exit code {code}: {self.last_line()}")
            fitness, metrics, reason = failure if code else self.answer()
            self.report(start["attempt"], start, "failed" if fitness is None else "completed", reason, fitness, metrics)
            self.stop_game()
        elif time.monotonic() > self.began + self.playing["time_limit_s"] and FAULT != "no_time_limit":
            start = self.playing
            self.end_tree(self.game.pid)
            self.report(start["attempt"], start, "timed_out", "the time limit has passed")
            self.stop_game()

    def stop_game(self) -> None:
        if self.game is not None:
            self.end_tree(self.game.pid)
            self.game.wait()
        self.playing = self.game = None

    def answer(self) -> tuple[float | None, dict[str, float], str]:
        try:
            found = json.loads((self.scratch / "result.json").read_bytes())
            metrics = found.get("metrics", {})
            names = all(1 <= len(name) <= 64 and name.isprintable() for name in metrics) or FAULT == "cuts_in_utf_16"
            values = [found["fitness"], *metrics.values()]
            if len(metrics) <= 64 and names and all(number(value) and abs(value) <= 1e300 for value in values):
                return found["fitness"], metrics, ""
            return None, {}, f"no such answer: {found['fitness']!r}"
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            return None, {}, f"no answer: {error}"

    def read_log(self) -> bytes:
        return (self.state / "game.log").read_bytes()[-65536:]

    def last_line(self) -> str:
        return (self.read_log().decode("utf-8", "replace").splitlines() or [""])[-1]

    def report(
        self,
        attempt: str,
        start: dict[str, Any] | None,
        outcome: str,
        reason: str,
        fitness: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        was_played = self.playing is not None and self.playing["attempt"] == attempt
        of_start = start or {"trial": None, "seed": None, "genome_sha256": None}
        owner = start or self.owner
        assert owner is not None
        record = {
            "layout": 2,
            **{name: owner[name] for name in ("farm", "worker", "epoch")},
            "attempt": attempt,
            **{name: of_start[name] for name in ("trial", "seed", "genome_sha256")},
            "evaluator": VERSION if was_played else None,
            "outcome": outcome,
            "fitness": fitness,
            "metrics": metrics or {},
            "reason": cut(reason, 500),
            "seconds": time.monotonic() - self.began if was_played else 0.0,
            **self.me(),
            **(self.payloads(attempt) if was_played else {}),
        }
        if FAULT == "wrong_seed" and start:
            record["seed"] ^= 1
        self.publish(f"{attempt}.result.json", record)
        for name, claim in self.late.items():
            self.publish(name, claim)

    def payloads(self, attempt: str) -> dict[str, Any]:
        refs: dict[str, Any] = {"log": None, "artifacts": []}
        if log := self.read_log():
            (self.outbox / f"{attempt}.log").write_bytes(log)
            refs["log"] = payload(f"{attempt}.log", log)
        files = sorted((self.scratch / "artifacts").glob("*"))
        for place, path in enumerate(files[:16]):
            (self.outbox / f"{attempt}.files").mkdir(exist_ok=True)
            name = path.name if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", path.name) else f"artifact-{place}"
            (self.outbox / f"{attempt}.files" / name).write_bytes(path.read_bytes())
            refs["artifacts"].append(payload(name, path.read_bytes()))
        return refs

    # ---------------------------------------------------------------------------------------------------- the end

    def end(self, why: str) -> None:
        self.stop_game()
        sys.exit(why)

    def run(self) -> None:
        while not self.stopping or FAULT == "ignores_end":
            if self.playing:
                self.look_at_game()
            self.round()
            time.sleep(POLL_S)
        if self.playing:
            start = self.playing
            self.stop_game()
            self.report(start["attempt"], start, "interrupted", "the agent was stopped")


def of(name: str, suffix: str) -> str:
    """The attempt of a file's name; empty if it has none, or another suffix."""
    attempt = name.removesuffix(suffix)
    return attempt if name.endswith(suffix) and ATTEMPT.fullmatch(attempt) else ""


def while_busy(call: Callable[[], object]) -> None:
    """Windows refuses to replace or remove a file while another program has it open."""
    for _ in range(12):
        with contextlib.suppress(PermissionError):
            call()
            return
        time.sleep(0.1)
    call()


def payload(name: str, data: bytes) -> dict[str, Any]:
    return {"name": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def cut(words: str, chars: int) -> str:
    """At most so many code points, without halves of surrogate pairs."""
    if FAULT == "cuts_in_utf_16":
        return words.encode("utf-16-le", "surrogatepass")[: 2 * chars].decode("utf-16-le", "surrogatepass")
    return words.encode("utf-8", "replace").decode()[:chars]


def main(argv: list[str]) -> None:
    global FAULT
    before, command = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    FAULT = before[3] if before[2:3] == ["--fault"] else ""
    assert not FAULT or FAULT in FAULTS
    agent = Agent(Path(before[0]), Path(before[1]), command)

    def stop(*_: object) -> None:
        agent.stopping = True

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    agent.run()


if __name__ == "__main__":
    main(sys.argv[1:])
