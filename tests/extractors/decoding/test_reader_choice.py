"""Which reader a file gets: asked for by name, or the one that is right for it."""

from dataclasses import replace
from fractions import Fraction

import pytest

from tests.support.videos import constant, write_video
from wtal.errors import UsageError
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.reader_choice import choose, reader_identity
from wtal.extractors.readers import READERS


def test_auto_is_decord_only_where_it_is_right(tmp_path):
    large = probe(write_video(tmp_path / "large.mp4", constant(25, 3), size=(1920, 1080)))
    assert choose(large, "auto")[0] == ("pyav" if READERS.load("decord").why_not() else "decord")
    obstacles = {
        "container": {"container": "mpegts"},
        "codec": {"codec": "av1"},
        "8 bit": {"pixel_format": "yuv420p10le"},
        "odd": {"width": 1921},
        "rotation": {"rotation": 90},
        "edit list": {"edited": True},
        "several": {"video_streams": 2},
        "start": {"start": Fraction(1, 25)},
        "duration": {"duration": None},
        "1920x1080": {"width": 640},
    }
    for words, change in obstacles.items():
        name, why = choose(replace(large, **change), "auto")
        assert name == "pyav"
        assert words in why


def test_choice_by_name(tmp_path):
    info = probe(write_video(tmp_path / "x.mp4", constant(25, 2)))
    assert choose(info, "opencv") == ("opencv", "asked for")
    with pytest.raises(UsageError, match="did you mean 'decord'"):
        choose(info, "decor")
    with pytest.raises(UsageError, match="there is no reader 'pyav:cuda'; did you mean"):
        choose(info, "pyav:cuda")
    assert reader_identity("pyav")["versions"].keys() == {"pyav"}
    assert "pyav" in reader_identity("auto")["versions"]
