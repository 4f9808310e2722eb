"""All networks on videos: changes at the right snippet, real and odd files on one grid."""

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.networks import first_names, made, shrink
from tests.support.reference import SHARED, needs_shared
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extraction_line import ExtractionLine
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec

NETWORKS = [name for name in first_names() if not name.startswith(("motion", "torchvision"))] + ["torchvision:mc3_18"]
"""Networks to test; the quickest represents torchvision, which stretches all pictures to the same size."""
LONGEST = "tdn:r101-16"
"""Backbone with a window of 128 frames."""
FRAMES, CHANGE, STRIDE = 150, 80, 16
SIZE = FrameSize(short_side=32, enlarge=False)
"""Size of small pictures, for networks of few layers: the tests are about positions in time and counts."""


def small(name, folder, batch=4):
    config = ExtractConfig(backbone=made(name, folder), streams=("rgb",))
    extractor = Extractor(ExtractorSpec(config, weights=(("rgb", "random:0"),), batch=batch))
    extractor.size = SIZE
    return extractor


def two_pictures(path):
    """Write six lossless seconds at 25 fps: one picture, and another from frame 80 on."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 48, 64), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            luma = pictures[int(number >= CHANGE)]
            planes = np.concatenate([luma, np.full((24, 64), 128, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def change(tmp_path_factory):
    return two_pictures(tmp_path_factory.mktemp("videos") / "change.mp4")


QUICK = "i3d"
SLOW = [name for name in (*NETWORKS, LONGEST) if name != QUICK]


@pytest.mark.parametrize("name", [QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_what_changes_at_a_second_changes_at_its_snippet(name, change, tmp_path, monkeypatch):
    """Windows that end before the change have the first picture's feature bit by bit, the next has another.

    Windows are computed here, to test the clock itself; one snippet per batch, because bits may depend on the batch.
    """
    shrink(monkeypatch)
    extractor = small(name, tmp_path, batch=1)
    with ExtractionLine([extractor]) as line:
        found = line.run(change)[0]
    features, first = found.streams["rgb"], STRIDE // 2 - extractor.span // 2
    windows = [range(STRIDE * i + first, STRIDE * i + first + extractor.span) for i in range(len(features))]
    assert len(features) == found.grid.num_snippets == -(-FRAMES // STRIDE)
    assert found.grid.to_segment(CHANGE // STRIDE, CHANGE // STRIDE).start == CHANGE / 25
    before = sum(window.stop <= CHANGE for window in windows)
    after = sum(window.start >= CHANGE for window in windows)
    assert before
    assert after
    assert (features[:before] == features[0]).all()
    assert (features[-after:] == features[-1]).all()
    assert (features[before] != features[0]).any()
    assert (features[-after - 1] != features[-1]).any()
    assert (features[0] != features[-1]).any()


def start_of(source, path, seconds):
    """Copy the packets of a real file that are shown before `seconds`."""
    with av.open(str(source)) as theirs, av.open(str(path), "w") as ours:
        stream = theirs.streams.video[0]
        copy = ours.add_stream_from_template(stream)
        for packet in theirs.demux(stream):
            if packet.dts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = copy
                ours.mux(packet)
    return path


@pytest.mark.slow
@needs_shared
@pytest.mark.shared
def test_real_and_odd_files_have_one_grid_in_all_networks(tmp_path, monkeypatch):
    """Extract the first snippets of the ActivityNet clips, and files of one frame, of 321 x 240 and in portrait."""
    shrink(monkeypatch)
    odd = SHARED / "data" / "odd"
    names = ("testsrc2_mpeg4.mp4", "testsrc2_odd_width_vp9.mp4", "nasa_13013_rotated.mp4")
    clips = sorted((SHARED / "data" / "activitynet").glob("*.mp4"))
    videos = [odd / name for name in names] + [start_of(clip, tmp_path / clip.name, 1.1) for clip in clips]
    extractors = [small(name, tmp_path) for name in NETWORKS]
    i3d = NETWORKS.index("i3d")
    with ExtractionLine(extractors) as line:
        for video in videos:
            found = line.run(video)
            grid = found[i3d].grid
            assert grid.fps == Fraction(25)
            assert grid.num_snippets == -(-grid.frames // STRIDE)
            counted = {"testsrc2_mpeg4": 1, "testsrc2_odd_width_vp9": 2, "nasa_13013_rotated": 1}
            assert counted.get(video.stem, 2) == grid.num_snippets, video.stem
            for extractor, one in zip(extractors, found, strict=True):
                assert one.streams["rgb"].shape == (grid.num_snippets, extractor.backbones["rgb"].dim)
                assert np.isfinite(one.streams["rgb"]).all()
                assert (one.grid.centers() == grid.centers()).all()
