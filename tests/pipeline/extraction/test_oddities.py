"""Last lines of an extraction: notes and failures by kind, with the first names; all of them in JSON."""

import json
from fractions import Fraction

import pytest
from click.testing import CliRunner

from tests.support.videos import constant, write_video
from wtal.cli import main

KINDS = {
    "videos with pictures that stay for more than 10 s": ["still-0", "still-1", "still-2", "still-3"],
    "videos that end before their declared end": ["cut"],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        times = [*constant(25, 10), *(Fraction(12) + k / Fraction(25) for k in range(10))]
        write_video(folder / f"still-{number}.mp4", times)
    write_video(folder / "plain.mp4", constant(25, 20))
    whole = write_video(folder / "cut.mkv", constant(25, 250), options={"g": "5"}).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    for number in range(4):
        (folder / f"empty-{number}.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    return folder


def extract(videos, tmp_path, *arguments):
    command = ["extract", str(videos), "--backbone", "motion", "--streams", "rgb", "--workspace", str(tmp_path)]
    return CliRunner().invoke(main, [*command, *arguments])


def test_an_extraction_ends_with_a_line_for_each_kind(videos, tmp_path):
    for _ in range(2):  # videos extracted before are reported too
        result = extract(videos, tmp_path)
        assert result.exit_code == 3, result.output
        lines = result.stderr.splitlines()
        assert lines[-1].startswith("5 of 11 videos failed; ")
        ends = lines[-5:-1]
        for line in (
            "videos with pictures that stay for more than 10 s: 4 of 11 (first: still-0, still-1, still-2)",
            "videos that end before their declared end: 1 of 11 (cut)",
            "failed, the file is empty (0 bytes): 4 of 11 (first: empty-0, empty-1, empty-2)",
            "failed, not a video that ffmpeg can open: Invalid data found when processing input: 1 of 11 (text)",
        ):
            assert line in ends


def test_json_has_all_of_them(videos, tmp_path):
    value = json.loads(extract(videos, tmp_path, "--json").stdout)
    assert value["oddities"] == KINDS
    assert len(value["failures"]) == 5
