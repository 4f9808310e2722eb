"""Stages shared by videos, and one video's way through them."""

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from tests.support.videos import chunks, constant, write_video
from wtal import heap as memory
from wtal.errors import VideoError
from wtal.extractors.backbones import i3d
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extraction_line import ExtractionLine
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec
from wtal.extractors.execution.jobs import StreamJob
from wtal.extractors.execution.stage_times import TimeTable
from wtal.extractors.execution.video_pass import StreamFeatures, VideoFlow
from wtal.extractors.execution.windows import Windows
from wtal.extractors.execution.worker_stage import Stage
from wtal.extractors.flow import create_flow


class Difference:
    """Flow engine whose output reveals its input: (second - first, second)."""

    def __init__(self):
        self.busy = False
        self.seen = []

    def __call__(self, first, second):
        assert not self.busy, "one engine in two threads"
        self.busy = True
        flow = np.stack([second.astype(np.float32) - first, second.astype(np.float32)], axis=3)
        self.seen.append(len(flow))
        self.busy = False
        return flow


class Kept:
    """Sink that keeps flows."""

    def __init__(self):
        self.flows, self.ended = [], False

    def push(self, frames):
        self.flows.append(frames)

    def end(self):
        self.ended = True


def flow_of(frames, engines, sizes, joined=0):
    times, kept = TimeTable(), Kept()
    with Stage("flow", "pairs", engines, times, joined) as stage:
        flow = VideoFlow(stage, times, [kept])
        for chunk in chunks(frames, sizes):
            flow.push(chunk)
        flow.end()
    assert kept.ended
    return np.concatenate(kept.flows) if kept.flows else None


@pytest.mark.parametrize("sizes", [[1], [3, 1, 7], [100]])
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("joined", [0, 5, 64])
def test_flow_goes_from_each_frame_to_the_next_across_chunks(sizes, workers, joined):
    frames = np.random.default_rng(0).integers(0, 255, (23, 5, 4, 3), np.uint8)
    gray = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]).astype(np.float32)
    engines = [Difference() for _ in range(workers)]
    flow = flow_of(frames, engines, sizes, joined)
    expected = np.stack([gray[1:] - gray[:-1], gray[1:]], axis=3)
    np.testing.assert_array_equal(flow, np.concatenate([expected, expected[-1:]]))
    seen = [count for engine in engines for count in engine.seen]
    assert sum(seen) == 22
    assert joined or max(seen) <= -(-max(sizes) // workers)
    assert joined or sizes != [100] or len(seen) == workers


def test_one_frame_has_zero_flow_and_no_frame_has_none():
    frames = np.full((1, 3, 2, 3), 7, np.uint8)
    np.testing.assert_array_equal(flow_of(frames, [Difference()], [1]), np.zeros((1, 3, 2, 2), np.float32))
    assert flow_of(frames[:0], [Difference()], [1]) is None


def test_real_flow_does_not_depend_on_the_number_of_engines():
    texture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (80, 100, 3), np.uint8), (0, 0), 2)
    frames = np.stack([np.roll(texture, (j, 2 * j), axis=(0, 1)) for j in range(9)])
    method = create_flow("dis")
    one = flow_of(frames, method.engines(1), [4])
    np.testing.assert_array_equal(one, flow_of(frames, method.engines(3), [9]))
    np.testing.assert_array_equal(one, flow_of(frames, method.engines(2), [len(frames)]))


@pytest.mark.parametrize("workers", [1, 3])
def test_features_come_in_order_whoever_makes_them(workers):
    def mean(clips):
        time.sleep(float(clips[0, 0, 0]) % 3 / 500)
        return clips.mean(axis=(1, 2))[:, None].astype(np.float32)

    frames = np.arange(40, dtype=np.float64)[:, None]
    times = TimeTable()
    with Stage("mean", "snippets", [mean] * workers, times, waiting=2) as stage:
        job = StreamJob("mean", partial(Windows, 4, 4, batch=2), 1, "float16", (mean,))
        features = StreamFeatures(stage, job)
        for chunk in chunks(frames, [7]):
            features.push(chunk)
        features.end()
        found = features.result()
    np.testing.assert_array_equal(found[:, 0], frames.reshape(10, 4).mean(axis=1))
    assert found.dtype == np.float16
    assert times.stages()["mean"].units == 10


def test_several_devices_share_the_snippets_of_all_videos_whatever_their_size(tmp_path, monkeypatch):
    """Run two copies of a network on two devices, both the CPU here: same numbers, batches of several videos."""
    monkeypatch.setattr(i3d, "CROP", 32)
    videos = [write_video(tmp_path / f"{n}.mp4", constant(25, 16), size=((48, 40), (64, 40))[n % 2]) for n in range(6)]
    spec = ExtractorSpec(
        ExtractConfig(backbone="i3d", streams=("rgb",)), weights=(("rgb", "random:0"),), batch=3, threads=1
    )
    alone, both = Extractor(spec), Extractor(replace(spec, device="cpu,cpu"))
    for one in (alone, both):
        one.size = FrameSize(short_side=40, enlarge=False)
    seen, go = [], threading.Event()

    def counted(own, clips):
        seen.append(len(clips))
        go.wait(60)
        return own(clips)

    for replica in both.replicas["rgb"]:
        monkeypatch.setattr(replica, "features", partial(counted, replica.features))
    with ExtractionLine([alone]) as line:
        expected = [line.run(video)[0] for video in videos]
    with ExtractionLine([both]) as line, ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda video: line.run(video)[0], videos)
        deadline = time.monotonic() + 60
        while sum(seen) + len(line._backbones[0, "rgb"]._orders) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        go.set()
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.streams["rgb"], other.streams["rgb"], rtol=1e-4, atol=1e-5)
    assert len(both.replicas["rgb"]) == 2
    assert sum(seen) == 6
    assert max(seen) > 1


def test_ten_crops_and_what_runs_on_a_cpu_come_to_the_stage_as_frames():
    clips = np.zeros((1, 16, 300, 280, 3), np.uint8)
    ten = ExtractConfig(backbone="i3d", streams=("rgb",), crops=10)
    spec = ExtractorSpec(ExtractConfig(backbone="i3d", streams=("rgb",)), weights=(("rgb", "random:0"),), threads=1)
    for one, shape in (
        (spec, clips.shape),
        (replace(spec, config=ten, device="cpu,cpu"), clips.shape),
        (replace(spec, device="cpu,cpu"), (1, 3, 16, 224, 224)),
    ):
        assert Extractor(one).jobs()["rgb"].prepare(clips).shape == shape


@pytest.mark.parametrize(("share", "most"), [(1, 32), (4, 8), (100, 1)])
def test_videos_in_flight_share_the_pairs_that_may_be_ahead(share, most):
    began, go, times, kept = threading.Event(), threading.Event(), TimeTable(), Kept()
    frames = np.zeros((1, 4, 4, 3), np.uint8)

    def held(first, second):
        began.set()
        go.wait(60)
        return np.zeros((*first.shape, 2), np.float32)

    with Stage("flow", "pairs", [held], times) as stage:
        flow = VideoFlow(stage, times, [kept], lambda: share)
        feeder = threading.Thread(target=lambda: [flow.push(frames) for _ in range(200)])
        feeder.start()
        assert began.wait(60)
        deadline = time.monotonic() + 60
        while len(stage._orders) < most and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        # One more pair is in work; then the video waits.
        assert len(stage._orders) == most
        go.set()
        feeder.join(60)
        flow.end()
    assert sum(map(len, kept.flows)) == 200


def test_what_fails_in_one_extractor_leaves_the_others_alone(tmp_path):
    video = write_video(tmp_path / "v.mp4", constant(25, 20), size=(48, 40))
    good, bad = Extractor(ExtractorSpec(ExtractConfig(streams=("rgb",)))), Extractor(ExtractorSpec(ExtractConfig()))
    for one in (good, bad):
        assert one.source == good.source
    bad.backbones["rgb"].extract = lambda clips, crops=1: np.full((len(clips), bad.backbones["rgb"].dim), np.nan)
    with ExtractionLine([good, bad]) as line:
        first, second = line.run(video)
    assert np.isfinite(first.streams["rgb"]).all()
    assert isinstance(second, VideoError)
    assert str(second).startswith("motion-pyramid rgb has features that are not finite")


def test_a_line_that_is_closed_calls_off_what_is_in_flight(tmp_path):
    video = write_video(tmp_path / "v.mp4", constant(25, 500), size=(320, 240))
    line = ExtractionLine([Extractor(ExtractorSpec(ExtractConfig()))])
    with ThreadPoolExecutor(1) as pool:
        flying = pool.submit(line.run, video)
        while not line.times.stages() and not flying.done():
            time.sleep(0.01)
        line.close()
        with pytest.raises(CancelledError):
            flying.result(60)


def test_each_stage_has_its_own_number_of_torch_threads_whoever_began_last(tmp_path):
    """Each thread of motion takes one, a network takes all; in either order."""
    video = write_video(tmp_path / "v.mp4", constant(25, 16), size=(48, 40))
    specs = [
        ExtractorSpec(ExtractConfig(backbone="motion", streams=("rgb",)), threads=3),
        ExtractorSpec(ExtractConfig(backbone="i3d", streams=("rgb",)), weights=(("rgb", "random:0"),), threads=3),
    ]
    for order in (specs, specs[::-1]):
        extractors = [Extractor(spec) for spec in order]
        seen = {}
        for one in extractors:
            one.size = FrameSize(short_side=40, enlarge=False)
            backbone, own = one.backbones["rgb"], one.backbones["rgb"].extract

            def counted(clips, crops, name=one.name, own=own, seen=seen):
                seen[name] = torch.get_num_threads()
                return own(clips, crops)

            backbone.extract = counted
        with ExtractionLine(extractors) as line:
            for numbers in line.groups(range(2)):
                line.run(video, numbers)
        assert seen == {"motion": 1, "i3d": 3}


def test_an_engine_that_fails_costs_the_video_and_no_more(tmp_path):
    videos = [write_video(tmp_path / f"{n}.mp4", constant(25, 20), size=(48, 40)) for n in range(2)]
    extractor = Extractor(ExtractorSpec(ExtractConfig(streams=("rgb",))))
    own, turns = extractor.backbones["rgb"].extract, []

    def fails_once(clips, crops):
        turns.append(len(clips))
        if len(turns) == 1:
            raise RuntimeError("out of\nmemory")
        return own(clips, crops)

    extractor.backbones["rgb"].extract = fails_once
    with ExtractionLine([extractor]) as line:
        with pytest.raises(VideoError, match="RuntimeError: out of memory"):
            line.run(videos[0])
        assert len(line.run(videos[1])[0].streams["rgb"]) == 3


def test_a_line_that_cannot_start_leaves_nothing_running():
    """Leave the second of two stages without workers."""
    before = set(threading.enumerate()), torch.get_num_threads(), cv2.getNumThreads()
    extractor = Extractor(ExtractorSpec(ExtractConfig()))
    jobs = extractor.jobs()
    extractor.jobs = lambda: {"rgb": jobs["rgb"], "flow": replace(jobs["flow"], workers=())}
    with pytest.raises(ValueError, match="needs at least one worker"):
        ExtractionLine([extractor])
    assert (set(threading.enumerate()), torch.get_num_threads(), cv2.getNumThreads()) == before


def test_one_pair_keeps_opencv_to_one_core_while_a_line_is_open():
    before = cv2.getNumThreads()
    with ExtractionLine([Extractor(ExtractorSpec(ExtractConfig(streams=("rgb",))))]):
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_the_time_table_knows_of_decoding_before_a_video_ends(tmp_path):
    video = write_video(tmp_path / "v.mp4", constant(25, 200), size=(64, 48))
    extractor = Extractor(ExtractorSpec(ExtractConfig(streams=("rgb",))))
    seen, own = [], extractor.backbones["rgb"].extract
    with ExtractionLine([extractor]) as line:

        def look(clips, crops):
            seen.append(line.times.stages()["decode and size"])
            return own(clips, crops)

        extractor.backbones["rgb"].extract = look
        line.run(video)
        whole = line.times.stages()["decode and size"]
    assert 0 < seen[0].units < whole.units == 200
    assert 0 < seen[0].seconds <= whole.seconds


def test_free_memory_is_given_back_every_ten_seconds(monkeypatch):
    calls, clock = [], [100.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: clock[0])
    trim = memory.Trimmer()
    trim._trim = calls.append
    for now in (105.0, 110.5, 111.0, 120.6):
        clock[0] = now
        trim()
    assert len(calls) == 2
    trim._trim = None
    clock[0] = 200.0
    trim()
