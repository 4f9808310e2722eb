"""Extraction on a GPU: the CPU's features, and batches of several videos."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tests.support.videos import constant, write_video
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extraction_line import ExtractionLine
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec

pytestmark = pytest.mark.gpu
CONFIG = ExtractConfig(backbone="i3d", flow="tvl1-fast")
SPEC = ExtractorSpec(CONFIG, weights=(("rgb", "random:0"), ("flow", "random:0")), batch=8)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of unequal size and length."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / "wide.mp4", constant(25, 40), size=(320, 240)),
        write_video(folder / "tall.mp4", constant(25, 56), size=(180, 320)),
    ]


def extracted(spec, videos):
    with ExtractionLine([Extractor(spec)]) as line, ThreadPoolExecutor(len(videos)) as pool:
        return [made for (made,) in pool.map(line.run, videos)], line.times.stages()


def test_features_are_those_of_the_cpu(cuda, videos):
    """Use torch's flow on both, to compare only networks and stages."""
    spec = replace(SPEC, config=CONFIG.model_copy(update={"flow": "tvl1-fast:torch"}))
    (on_cpu, _), (on_card, stages) = (extracted(replace(spec, device=device), videos) for device in ("cpu", cuda))
    assert stages["i3d rgb"].units == stages["i3d flow"].units == 3 + 4
    for one, other in zip(on_cpu, on_card, strict=True):
        assert one.grid == other.grid
        for stream, features in one.streams.items():
            scale = np.abs(features).max()
            np.testing.assert_allclose(other.streams[stream], features, atol=1e-2 * scale, err_msg=stream)
            cosine = (features * other.streams[stream]).sum() / np.linalg.norm(features)
            assert cosine / np.linalg.norm(other.streams[stream]) > 0.999


def test_two_videos_of_unequal_size_share_a_batch(cuda, videos):
    """Clips that wait while the first batch is held up run together."""
    config = CONFIG.model_copy(update={"streams": ("rgb",)})
    extractor = Extractor(replace(SPEC, config=config, weights=SPEC.weights[:1], device=cuda, batch=2))
    network = extractor.backbones["rgb"]
    own, seen = network.features, []

    def counted(clips):
        seen.append(tuple(clips.shape))
        return own(clips)

    network.features = counted
    with ExtractionLine([extractor]) as line, ThreadPoolExecutor(2) as pool:
        alone = [line.run(video)[0] for video in videos]
        seen.clear()
        stage = line._backbones[0, "rgb"]
        wide, tall = (
            extractor.jobs()["rgb"].prepare(np.zeros((1, 16, *size, 3), np.uint8)) for size in ((256, 341), (455, 256))
        )
        assert wide.shape == tall.shape == (1, 3, 16, 224, 224)
        for order in [stage.submit(each) for each in (wide, tall) * 4]:
            order.result(120)
        together = [made for (made,) in pool.map(line.run, videos)]
    assert {shape[1:] for shape in seen} == {(3, 16, 224, 224)}
    assert max(shape[0] for shape in seen) == 2
    for one, other in zip(alone, together, strict=True):
        scale = np.abs(one.streams["rgb"]).max()
        np.testing.assert_allclose(other.streams["rgb"], one.streams["rgb"], atol=1e-3 * scale)


def test_triton_makes_the_flow_of_a_bare_name(cuda, videos):
    extractor = Extractor(replace(SPEC, device=cuda))
    assert extractor.flow.implementation == "triton"
    assert "tvl1-fast.triton" in extractor.readable
