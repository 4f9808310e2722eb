"""Second 0 of the picture against that of the file, and edit lists that players treat differently."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, write_video
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Segment
from wtal.data.store import FeatureStore
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.readers import READERS, read
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.workspace import Workspace

LATE = "the picture begins 2.000 s after the start of the file, second 0 of players"


def with_sound(path: Path, late: Fraction, sound_late: Fraction = Fraction(0), seconds: int = 6) -> Path:
    """Write a numbered video of two seconds that begins `late`, with silence as sound."""
    picture = write_video(path.with_name("picture.mp4"), constant(25, 50))
    with av.open(str(picture)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream("mp2" if path.suffix in (".ts", ".mpg") else "aac", rate=16000, layout="mono")
        for k in range(0, 16000 * seconds - 2000, 1000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), format="s16", layout="mono")
            frame.rate, frame.pts, frame.time_base = 16000, k + round(sound_late * 16000), Fraction(1, 16000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                shift = round(late / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                container.mux(packet)
    return path


def summary_of(path: Path, reader: str = "pyav"):
    info = probe(path)
    sampler = Sampler(read(info, reader), info, Fraction(25))
    assert sum(1 for _ in sampler) == 50
    return sampler.summary(reader)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_picture_that_begins_after_the_sound_is_told(tmp_path, suffix):
    summary = summary_of(with_sound(tmp_path / f"x{suffix}", Fraction(2)))
    assert float(summary.begins) == pytest.approx(2, abs=0.09)
    assert any("after the start of the file, second 0 of players" in note for note in summary.notes)
    assert Fraction(summary.to_json()["begins"]) == summary.begins


@pytest.mark.parametrize(("late", "sound_late"), [(0, 0), (Fraction(1, 25), 0), (0, 2)])
def test_a_picture_that_begins_with_or_before_the_sound_is_not(tmp_path, late, sound_late):
    summary = summary_of(with_sound(tmp_path / "x.mkv", Fraction(late), Fraction(sound_late)))
    assert (summary.begins, summary.notes) == (0, ())
    assert "begins" not in summary.to_json()


def test_a_file_of_one_late_picture_alone_begins_with_it(tmp_path):
    summary = summary_of(write_video(tmp_path / "x.mkv", constant(25, 50, Fraction(5, 2))))
    assert (summary.begins, summary.start) == (0, Fraction(5, 2))


def test_seconds_of_a_grid_that_begins_late():
    grid = SnippetGrid(Fraction(25), 50, Fraction(16), 16, begins=Fraction(96, 25))
    plain = replace(grid, begins=Fraction(0))
    assert grid.to_segment(0, 3) == Segment(3.84, 5.84)
    assert np.array_equal(grid.seconds(np.array([0, 1, 4])), [3.84, 4.48, 5.84])
    assert np.allclose(grid.centers(), plain.centers() + 3.84)
    assert grid.mask([Segment(3.9, 4.5)]).tolist() == [True, False, False, False]
    assert (grid.duration, grid.end) == (2.0, 5.84)
    assert SnippetGrid.from_json(grid.to_json()) == grid
    assert "begins" not in plain.to_json()
    assert SnippetGrid.from_json(plain.to_json()) == plain


def test_seconds_of_a_grid_whose_first_snippet_stands_further_in():
    """Rows every 4 frames from windows of 24 frames; the first window begins with the first frame."""
    grid = SnippetGrid(Fraction(25), 30, Fraction(4), 24, "drop", begins=Fraction(2), lead=Fraction(10))
    assert grid.num_snippets == 5
    assert [grid.window(0), grid.window(4)] == [range(24), range(16, 40)]
    assert grid.centers().tolist() == [2 + (12 + 4 * i) / 25 for i in range(5)]
    assert grid.to_segment(0, 4) == Segment(2.4, 3.2)
    assert grid.seconds(np.array([0, 1, 5, 9])).tolist() == [2.4, 2.56, 3.2, 3.2]
    assert grid.seconds(np.array([1, 3]), 2).tolist() == [grid.to_segment(1, 2, 2).start, grid.to_segment(1, 2, 2).end]
    assert (grid.duration, grid.end) == (1.2, 3.2)
    assert SnippetGrid.from_json(grid.to_json()) == grid
    assert "lead" not in replace(grid, lead=Fraction(0)).to_json()
    with pytest.raises(ValueError, match="a lead of at least 0"):
        replace(grid, lead=Fraction(-1))


@pytest.mark.parametrize(("zero", "begins"), [("file", 2), ("picture", 0)])
def test_extraction_keeps_the_zero_that_was_asked_for(tmp_path, zero, begins):
    video = with_sound(tmp_path / "x.mkv", Fraction(2))
    config = ExtractConfig(backbone="motion", streams=("rgb",), zero=zero)
    store = FeatureStore.open(extract([video], config, Workspace(tmp_path / "workspace")).store)
    assert store.grid("x").begins == begins
    assert store.info("x")["notes"] == [LATE]
    assert store.identity.get("zero") == (None if zero == "file" else "picture")


def test_the_default_zero_changes_no_name_of_a_run():
    assert "zero" not in Recipe().training_identity()["extract"]
    assert Recipe.parse({"extract": {"zero": "picture"}}).training_identity()["extract"]["zero"] == "picture"


@needs_shared
@pytest.mark.parametrize("reader", ["pyav", "opencv", "torchcodec"])
def test_case_of_a_late_picture(reader):
    if reason := READERS.load(reader).why_not():
        pytest.skip(f"{reader}: {reason}")
    info = probe(SHARED / "cases" / "03_picture_begins_late" / "late.mp4")
    sampler = Sampler(read(info, reader), info, Fraction(25))
    assert sum(1 for _ in sampler) == 250
    assert sampler.summary(reader).begins == Fraction(96, 25)


@needs_shared
def test_case_of_a_slow_motion():
    info = probe(SHARED / "cases" / "12_small" / "slow_motion.mov")
    assert info.reassembled
    assert not probe(SHARED / "cases" / "12_small" / "one_frame.mp4").reassembled


def test_ordinary_edit_lists_are_no_oddity(tmp_path):
    assert not probe(write_video(tmp_path / "b.mp4", constant(25, 30), options={"bf": "3"})).reassembled
    assert not probe(with_sound(tmp_path / "late.mp4", Fraction(2))).reassembled
