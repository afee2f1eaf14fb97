"""The example: genomes are checked, evolution is pure and improves, an episode depends only on its seed."""

import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.harness.source_tree import ROOT

np = pytest.importorskip("numpy")
pytest.importorskip("gymnasium")
if importlib.util.find_spec("Box2D") is None:
    pytest.skip("the lander needs gymnasium[box2d]", allow_module_level=True)

FOLDER = ROOT / "examples" / "lunar_lander"
sys.path.insert(0, str(FOLDER))  # as an agent does with the evaluator's folder

evaluator, evolution, policy = map(import_module, ("evaluator", "evolution", "policy"))
demo = import_module("examples.lunar_lander.__main__")

from inbox_agent.evaluation.trial import EvaluatorTrial  # noqa: E402

# Box2D's binding warns at import, and crashes the interpreter if the warning is an error.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")

#: Compensates drift and tilt, brakes the fall: a policy that lands.
PILOT = [0.5, 0, 1, 0, -1, -1, 0, 0, -0.05, -0.5, -1, -0.5, 0.3, 0, 0, 0, -0.05]
SOME = np.random.default_rng(5).normal(size=(6, policy.PARAMS))


def fly(params: Any, seed: int, **limits: int) -> dict[str, Any]:
    return dict(evaluator.episode(policy.Policy(np.asarray(params)), seed, **limits))


# ---------------------------------------------------------------------------------------------------- genomes


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_genome_round_trips(tmp_path: Path, kind: str) -> None:
    """Both float types keep every bit, and equal parameters are equal bytes."""
    params = SOME[0].astype(kind)
    genome = tmp_path / "genome.npz"
    genome.write_bytes(policy.encode(params))
    loaded = policy.load(genome)
    assert loaded.dtype == params.dtype
    assert loaded.tobytes() == params.tobytes()
    assert genome.read_bytes() == policy.encode(params.copy())


def arrays(path: Path, **named: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **named)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


WHOLE = policy.encode(SOME[0])
BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"left, left, right"),
    "cut": lambda path: path.write_bytes(WHOLE[:-40]),
    "flipped": lambda path: path.write_bytes(WHOLE.replace(SOME[0].tobytes(), bytes(SOME[0].nbytes))),
    "bare array": lambda path: path.write_bytes(npy(SOME[0])),
    "pickled": lambda path: arrays(path, params=np.array([{}] * policy.PARAMS, dtype=object)),
    "another name": lambda path: arrays(path, weights=SOME[0]),
    "too short": lambda path: arrays(path, params=SOME[0][:-1]),
    "two rows": lambda path: arrays(path, params=SOME[:2]),
    "integers": lambda path: arrays(path, params=np.arange(policy.PARAMS)),
    "infinite": lambda path: arrays(path, params=np.where(np.arange(policy.PARAMS) == 3, np.inf, SOME[0])),
}


@pytest.mark.parametrize("how", BROKEN)
def test_invalid_genome_is_refused(tmp_path: Path, how: str) -> None:
    """Any defect of the file is a ValueError of one line; nothing is unpickled."""
    genome = tmp_path / "genome.npz"
    BROKEN[how](genome)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        policy.load(genome)


def test_policy_is_mirror_symmetric() -> None:
    """Left and right are equivalent for a policy."""
    mirrored_action = {0: 0, 1: 3, 2: 2, 3: 1}
    observations = np.random.default_rng(6).normal(size=(50, 8))
    for params in SOME:
        pilot = policy.Policy(params)
        for seen in observations:
            assert pilot.act(policy.MIRROR @ seen) == mirrored_action[pilot.act(seen)]


# -------------------------------------------------------------------------------------------------- evolution


def climb(seed: int, generations: int) -> Any:
    """Evolution with the distance to a point as fitness."""
    rng, search = np.random.default_rng(seed), evolution.first_search(5)
    for generation in range(1, generations + 1):
        genomes = search.population(rng, 40)
        search = evolution.next_search([(g, -float(np.sum((g - 1.5) ** 2))) for g in genomes], generation)
    return search


def test_evolution_finds_maximum() -> None:
    """On a smooth function the search ends near the maximum and narrows."""
    search = climb(seed=1, generations=15)
    assert np.abs(search.mean - 1.5).max() < 0.2
    assert search.sigma.max() < 0.2


def test_evolution_is_deterministic() -> None:
    """The same generator and fitnesses give the same search, bit by bit; the genomes are not changed."""
    assert climb(seed=2, generations=5).mean.tobytes() == climb(seed=2, generations=5).mean.tobytes()
    scored = [(row.copy(), float(n)) for n, row in enumerate(SOME)]
    evolution.next_search(scored, 1)
    assert all(np.array_equal(params, row) for (params, _), row in zip(scored, SOME, strict=True))


def test_only_elite_ranks_matter() -> None:
    """Any rising function of the fitness, and worse losers, give the same search."""
    fitness = [5.0, -3.0, 4.0, 0.0, 1.0, -2.0]
    plain = evolution.next_search(list(zip(SOME, fitness, strict=True)), 1)
    bent = [f**3 if f > 3 else f - 100 for f in fitness]
    assert evolution.next_search(list(zip(SOME, bent, strict=True)), 1).mean.tobytes() == plain.mean.tobytes()
    share = (plain.mean - SOME[2]) / (SOME[0] - SOME[2])  # the elite of six are the best two
    assert np.allclose(share, share[0])
    assert 0.5 < share[0] < 1


def test_identical_population_keeps_positive_sigma() -> None:
    """Noise keeps sigma above zero, and decreases from generation to generation."""
    twins = [(SOME[0], 1.0)] * 8
    early, late = (evolution.next_search(twins, generation).sigma for generation in (1, 8))
    assert (early > late).all()
    assert (late > 0).all()


# --------------------------------------------------------------------------------------------------- episodes


def test_episode_depends_on_seed_only() -> None:
    """After other episodes, also interrupted ones, the bits are those of a fresh environment."""
    fresh = []
    for seed, params in enumerate(SOME):
        evaluator.environment.cache_clear()
        fresh.append(fly(params, seed))
    for seed in (3, 0, 5, 1, 4, 2):
        fly(PILOT, seed + 100, max_steps=13)
        assert fly(SOME[seed], seed) == fresh[seed]
    assert len({result["fitness"] for result in fresh}) == len(fresh)


def test_different_seeds_give_different_episodes() -> None:
    """Also with the largest seed of a trial."""
    assert len({fly(PILOT, seed)["fitness"] for seed in (0, 1, 2**31 - 1)}) == 3


def test_wind_is_off() -> None:
    """Wind is off: its random course would be part of the game."""
    assert evaluator.environment().unwrapped.enable_wind is False


def test_landing_is_distinguished_from_crash() -> None:
    """A policy that lands has a high fitness and `landed`; one that does nothing has neither."""
    landing, crash = fly(PILOT, 0), fly(np.zeros(policy.PARAMS), 0)
    assert landing["fitness"] > 200
    assert landing["metrics"]["landed"] == 1
    assert crash["fitness"] < -50
    assert crash["metrics"]["landed"] == 0


def test_evaluator_uses_seed_and_settings(tmp_path: Path) -> None:
    """Seed and `max_steps` of the trial are used, and the progress is reported."""
    genome = tmp_path / "genome.npz"
    genome.write_bytes(policy.encode(np.array(PILOT)))

    class Watched(EvaluatorTrial):
        def progress(self, text: str) -> None:
            progress.append(text)

    progress: list[str] = []
    trial = Watched(number=1, seed=4, settings={"max_steps": 120}, time_limit_s=9.0, scratch=tmp_path)
    result = evaluator.play(genome, trial)
    assert result == fly(PILOT, 4, max_steps=120)
    assert result["metrics"] == {"steps": 120, "landed": 0}
    assert progress == ["step 100"]


def test_command_equals_callable(tmp_path: Path) -> None:
    """`play.py` writes what the function returns."""
    (tmp_path / "genome.npz").write_bytes(policy.encode(SOME[1]))
    (tmp_path / "settings.json").write_text('{"max_steps": 50}')
    words = ["genome.npz", "--seed", "9", "--settings", "settings.json", "--result", "result.json"]
    subprocess.run([sys.executable, FOLDER / "play.py", *words], cwd=tmp_path, check=True)
    assert json.loads((tmp_path / "result.json").read_text()) == fly(SOME[1], 9, max_steps=50)


# ------------------------------------------------------------------------------------------------------ the folders


def test_demo_says_which_folder_it_writes(tmp_path: Path) -> None:
    """The folders of earlier runs are kept, and the line says how to remove them."""
    wanted = tmp_path / "lander-demo"
    assert demo.where(demo.fresh_folder(wanted), wanted) == f"this run writes to {wanted}/"
    for number in (2, 3):
        demo.fresh_folder(wanted).mkdir()
        second = demo.where(demo.fresh_folder(wanted), wanted)
        assert second.startswith(f"this run writes to {wanted}-{number}/, because {wanted}/ is of an earlier one; ")
    assert demo.where(Path("lander-demo-2"), demo.OUT).endswith("; `make clean` removes them all")


@pytest.mark.needs("make")
def test_clean_removes_folders_of_demos(tmp_path: Path) -> None:
    """And no other one whose name begins alike."""
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("lander-demo", "lander-demo-2", "lander-demo-13", "lander-demo-notes", "lander"):
        (tmp_path / name).mkdir()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Makefile", "lander", "lander-demo-notes"]
