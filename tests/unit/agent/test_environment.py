"""Which environment variables a game gets."""

from pathlib import Path

from inbox_agent.evaluation.environment import game_environment, with_modules_of


def passed(inherited: dict[str, str], *, windows: bool = False, allow: tuple[str, ...] = ()) -> set[str]:
    """The inherited variables that a game gets."""
    return game_environment(inherited, allow, {}, threads=1, windows=windows).keys() & inherited.keys()


def test_usual_variables_are_inherited() -> None:
    """Programs do not start without them."""
    usual = {"PATH": "x", "HOME": "x", "LC_ALL": "x", "DISPLAY": ":0", "XDG_RUNTIME_DIR": "x", "PYTHONPATH": "x"}

    assert passed(usual) == usual.keys()


def test_windows_variables_are_inherited_in_any_case() -> None:
    """Windows compares their names without case."""
    usual = {"SystemRoot": "x", "Path": "x", "ProgramFiles(x86)": "x", "LOCALAPPDATA": "x"}

    assert passed(usual, windows=True) == usual.keys()
    assert passed({"SystemRoot": "x", "Path": "x"}) == set()


def test_unknown_variables_are_not_inherited() -> None:
    """Among them the passwords of other programs."""
    assert passed({"AWS_SECRET_ACCESS_KEY": "x", "FARM_PASSWORD": "x", "PATHOLOGY": "x", "GITHUB_TOKEN": "x"}) == set()


def test_pattern_allows_further_variables() -> None:
    """`*` stands for any characters, also for none."""
    assert passed({"GAME_A": "1", "GAME_": "2", "AGAME_": "3"}, allow=("GAME_*",)) == {"GAME_A", "GAME_"}


def test_fixed_value_wins() -> None:
    """Over inherited variables and over the defaults."""
    found = game_environment({"PATH": "a"}, (), {"PATH": "b", "OMP_NUM_THREADS": "9"}, threads=2, windows=False)

    assert (found["PATH"], found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == ("b", "9", "2")


def test_modules_of_folder_come_first() -> None:
    """Before those that the user has in PYTHONPATH."""
    folder = Path("games")

    assert with_modules_of(folder, {})["PYTHONPATH"] == "games"
    assert with_modules_of(folder, {"PYTHONPATH": "mine"})["PYTHONPATH"].replace(";", ":") == "games:mine"


def test_fixed_name_is_folded_on_windows() -> None:
    """Its block of variables would have two of them otherwise."""
    found = game_environment({"PATH": "a"}, (), {"Path": "b"}, threads=1, windows=True)

    assert {name: value for name, value in found.items() if name.upper() == "PATH"} == {"PATH": "b"}
