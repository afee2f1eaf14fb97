"""The paths of the files of a project."""

from pathlib import Path

import pytest

from pipeline.paths import GENERATION_FOLDER, GENERATION_FORMS, GENERATION_GLOB, ProjectPaths, generation_folder

ROOT = Path("farm")
PATHS = ProjectPaths(ROOT)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        (PATHS.config, "pipeline.toml"),
        (PATHS.all_genomes, "genomes"),
        (PATHS.genomes(7), "genomes/gen-0007"),
        (PATHS.all_results, "results"),
        (PATHS.results(12345), "results/gen-12345"),
        (PATHS.report(7), "results/report-gen-0007.html"),
        (PATHS.report(None), "results/report.html"),
        (PATHS.state, "state"),
        (PATHS.lock, "state/host.lock"),
        (PATHS.snapshots, "state/genomes"),
        (PATHS.incoming, "state/incoming"),
        (PATHS.evidence, "state/evidence"),
        (PATHS.share("local-0"), "state/shares/local-0"),
        (PATHS.agent_state("local-0"), "state/local/local-0"),
        (PATHS.agent_log("local-0"), "state/local/local-0/agent.log"),
    ],
)
def test_project_paths(path: Path, written: str) -> None:
    """Projects of earlier versions have these paths, and users' programs read some of them."""
    assert path.relative_to(ROOT).as_posix() == written


@pytest.mark.parametrize("generation", [1, 7, 9999, 123456789])
def test_generation_folder_name_round_trips(generation: int) -> None:
    name = generation_folder(generation)

    assert Path(name).match(GENERATION_GLOB)
    for found in (GENERATION_FOLDER.fullmatch(f"any/where/{name}"), GENERATION_FORMS.fullmatch(name)):
        assert found is not None
        assert int(found[1]) == generation
