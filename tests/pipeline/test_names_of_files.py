"""Whole run: matches of a table's names before extraction, no training on other files, a page at the end."""

import pytest

from tests.support.videos import constant, write_video
from wtal.data.files import read_json
from wtal.errors import UsageError
from wtal.pipeline.chain import RunOptions, run
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.workspace import Workspace

SETTINGS = {
    "extract": {"backbone": "motion", "streams": ["rgb"], "flow": "dis"},
    "head": {"name": "basnet"},
    "train": {"steps": 1, "batch_size": 2},
}


def lines_of(folder, table, workspace):
    lines = []

    class Lines:
        def say(self, line):
            lines.append(line)

        def task(self, *arguments):
            from wtal.pipeline.progress import SILENT

            return SILENT.task(*arguments)

    result = run([folder], table, Recipe.parse(SETTINGS), Workspace(workspace), reporter=Lines())
    return result, lines


def test_no_name_matches_is_told_before_extraction(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "Jump-01.mp4").touch()
    table = tmp_path / "labels.csv"
    table.write_text("video,label\njump_01.mp4,jump\nrun_01.mp4,run\n")
    with pytest.raises(UsageError, match=r"none of the 2 labelled videos .* 'jump_01', closest to file 'Jump-01'"):
        run([tmp_path / "videos"], table, Recipe.parse(SETTINGS), Workspace(tmp_path / "workspace"))
    assert not (tmp_path / "workspace" / "features").exists()


@pytest.mark.slow
def test_a_broken_file_does_not_train_on_the_features_of_a_similar_name(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("clip", "b", "c"):
        write_video(folder / f"{name}.mp4", constant(25, 40))
    (folder / "v_clip.mp4").write_bytes(b"broken" * 100)
    table = tmp_path / "labels.csv"
    table.write_text("video,label\nv_clip.mp4,jump\nb.mp4,run\nc.mp4,jump\n")
    result, lines = lines_of(folder, table, tmp_path / "workspace")
    assert result.extracted.failures.keys() == {"v_clip"}
    assert "training on 2 of 3 training videos: 2 labelled; left out: 1 without features" in " ".join(lines)
    detections = read_json(result.detections[0])["results"]
    assert set(detections) == {"clip", "b", "c"}


@pytest.mark.slow
def test_a_run_writes_its_page_unless_it_is_told_not_to(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.mp4", constant(25, 40))
    table = tmp_path / "labels.csv"
    table.write_text("video,label\na.mp4,jump\nb.mp4,run\n")
    place, recipe = Workspace(tmp_path / "workspace"), Recipe.parse(SETTINGS)
    without = run([tmp_path / "videos"], table, recipe, place, RunOptions(report=False))
    assert without.report is None
    assert not list(place.root.rglob("index.html"))
    written = run([tmp_path / "videos"], table, recipe, place).report
    assert written is not None
    assert [*place.root.rglob("index.html")] == [written]
