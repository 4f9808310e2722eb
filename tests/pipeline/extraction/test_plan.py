"""Plan of extraction: missing videos of each store, and an estimate from a trial."""

import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.videos import constant, write_video
from wtal.commands._console import ConsoleReporter
from wtal.data.store import writer as store_writer
from wtal.extractors.decoding.frame_size import FrameSize
from wtal.extractors.execution.config import ExtractConfig
from wtal.extractors.execution.extraction_line import ExtractionLine
from wtal.extractors.execution.extractor import Extractor, ExtractorSpec
from wtal.extractors.execution.stage_times import Spent, TimeTable
from wtal.pipeline.extraction.extract import extract_all
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.plan import plan, plan_lines
from wtal.pipeline.extraction.trial import Rates, SizedFile, _rates, _Trial, _try, load, measure
from wtal.pipeline.progress import Reporter
from wtal.pipeline.workspace import Workspace

I3D = ExtractorSpec(
    ExtractConfig(backbone="i3d", flow="dis"), weights=(("rgb", "random:0"), ("flow", "random:0")), threads=1, batch=2
)


@pytest.fixture
def folder(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(3):
        write_video(videos / f"v{number}.mp4", constant(25, 20 + 10 * number), size=(64, 48))
    return videos


def test_a_video_is_to_come_in_the_stores_that_lack_it_and_an_existing_store_is_only_read(
    folder, tmp_path, monkeypatch
):
    rgb, both, workspace = ExtractConfig(streams=("rgb",)), ExtractConfig(), Workspace(tmp_path / "ws")
    extract_all([folder / "v0.mp4"], [rgb, both], workspace)
    extract_all([folder], [rgb], workspace)

    def refuse(*arguments, **options):
        raise AssertionError("a plan locks nothing")

    monkeypatch.setattr(store_writer, "locked", refuse)
    monkeypatch.setattr(store_writer.Lock, "acquire", refuse)
    found = plan([folder], [rgb, both], workspace, trial=0.2)
    assert [video.done for video in found.videos] == [True, False, False]
    assert [store.videos for store in found.stores] == [0, 2]
    assert found.stores[0].snippets == 0
    assert found.stores[1].snippets == -(-30 // 8) + -(-40 // 8)
    assert found.seconds == pytest.approx(70 / 25)
    assert found.needed > 0
    assert any("0 snippets of 0 videos" in line for line in plan_lines(found))


@pytest.fixture
def endless(tmp_path):
    """Write a video whose header has no duration, like that of a live stream."""
    options = {"codec": "libvpx", "size": (96, 64), "mux": {"live": "1"}}
    return write_video(tmp_path / "endless.webm", constant(25, 30), **options)


def test_videos_that_do_not_declare_their_length_are_counted_and_left_out(folder, endless, tmp_path):
    workspace, config = Workspace(tmp_path / "ws"), ExtractConfig(streams=("rgb",))
    found = plan([folder, endless], [config], workspace, trial=0.1)
    assert [video.seconds for video in found.videos] == [None, *(pytest.approx((20 + 10 * n) / 25) for n in range(3))]
    assert found.seconds == pytest.approx(90 / 25)
    assert found.stores[0].snippets == sum(-(-frames // 8) for frames in (20, 30, 40))
    assert found.stores[0].videos == 3
    assert found.needed > 0
    assert "          1 do not declare their length and are not counted below" in plan_lines(found)


def test_where_no_length_is_known_the_time_is_not_known(endless, tmp_path):
    """The estimate is 0 after extraction, even for a video without duration."""
    workspace, configs = Workspace(tmp_path / "ws"), [ExtractConfig(streams=("rgb",)), ExtractConfig(fps="10")]
    found = plan([endless], configs, workspace, trial=0.1)
    assert plan_lines(found)[-1] == "time      unknown: no video to extract declares its length"
    assert (found.to_json()["needed_seconds"], found.to_json()["rate"]) == (None, None)
    extract_all([endless], configs, workspace)
    found = plan([endless], configs, workspace)
    assert plan_lines(found)[-1] == "time      nothing to extract"
    assert (found.to_json()["needed_seconds"], found.to_json()["rate"]) == (0, None)


def test_the_files_of_finished_videos_are_not_opened(folder, tmp_path, monkeypatch):
    workspace, config = Workspace(tmp_path / "ws"), ExtractConfig(streams=("rgb",))
    extract_all([folder / "v0.mp4", folder / "v1.mp4"], [config], workspace)
    opened, headers = [], ExtractionLine.headers
    monkeypatch.setattr(ExtractionLine, "headers", lambda line, path: opened.append(path.name) or headers(line, path))
    found = plan([folder], [config], workspace, trial=0.2)
    assert opened == ["v2.mp4"]
    assert [video.seconds for video in found.videos] == [pytest.approx((20 + 10 * n) / 25) for n in range(3)]
    assert {(video.width, video.height) for video in found.videos} == {(64, 48)}
    assert found.seconds == pytest.approx(40 / 25)


def test_a_video_of_no_seconds_declares_no_length(folder, tmp_path, monkeypatch):
    headers = ExtractionLine.headers
    monkeypatch.setattr(
        ExtractionLine, "headers", lambda self, path: replace(headers(self, path), duration=Fraction(0))
    )
    found = plan([folder], [ExtractConfig(streams=("rgb",))], Workspace(tmp_path))
    assert [video.seconds for video in found.videos] == [None] * 3
    assert found.needed is None


def test_a_pass_that_is_for_endless_videos_alone_is_not_tried(folder, endless, tmp_path, monkeypatch):
    """Plan a store that has the other videos already."""
    seen, workspace = [], Workspace(tmp_path / "ws")
    fast, slow = ExtractConfig(streams=("rgb",)), ExtractConfig(streams=("rgb",), fps="10")
    extract_all([folder], [slow], workspace)

    def tried(extractors, sample, many, seconds):
        seen.append(([str(extractor.rate) for extractor in extractors], len(sample)))
        return Rates({"decode and size": 1e-6}, 1)

    monkeypatch.setattr("wtal.pipeline.extraction.plan.measure", tried)
    assert plan([folder, endless], [fast, slow], workspace).needed > 0
    assert seen == [(["25"], 3)]


def test_trials_are_counted_in_words(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("wtal.pipeline.extraction.plan.measure", lambda *arguments: Rates({"decode and size": 1e-6}, 1))
    configs = [ExtractConfig(streams=("rgb",), fps=fps) for fps in ("25", "10")]
    plan([folder], configs, Workspace(tmp_path), reporter=ConsoleReporter())
    assert "try: 2/2 trials," in capsys.readouterr().err


def test_what_cannot_be_read_by_trial_takes_nobody_knows_how_long(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("wtal.pipeline.extraction.plan.measure", lambda *arguments: None)
    found = plan([folder], [ExtractConfig()], Workspace(tmp_path))
    assert plan_lines(found)[-1] == "time      unknown: the videos tried cannot be read"


def test_a_plan_for_a_cluster_says_that_the_cluster_was_not_tried(folder, tmp_path):
    machine = Machine(engine="dask", cluster="tcp://127.0.0.1:1")
    found = plan([folder], [ExtractConfig(streams=("rgb",))], Workspace(tmp_path), machine=machine, trial=0.1)
    assert found.to_json()["cluster"]
    assert "on this machine alone (the cluster was not tried)" in plan_lines(found)[-1]


def test_a_trial_has_as_many_videos_in_flight_as_there_will_be_processes(folder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "wtal.pipeline.extraction.plan.measure", lambda extractors, sample, many, seconds: seen.append(many)
    )
    for machine in (Machine(), Machine(decoders=5), Machine(jobs=3)):
        assert plan([folder], [ExtractConfig()], Workspace(tmp_path), machine=machine).needed is None
    assert seen == [1, 5, 3]


def test_work_goes_by_pixels_but_for_what_sees_a_crop():
    """SizedFiles of four times the pixels: four times the decoding and flow, the same snippets of I3D."""
    extractor = Extractor(I3D)
    extractor.size = FrameSize(1000, enlarge=False)
    small, large = (load([extractor], SizedFile(Path("x"), side, side), 40) for side in (100, 200))
    assert set(small) == {"decode and size", "colour", "flow", "i3d rgb", "i3d flow"}
    assert {stage: large[stage] / small[stage] for stage in small} == {
        "decode and size": 4,
        "colour": 4,
        "flow": 4,
        "i3d rgb": 1,
        "i3d flow": 1,
    }
    assert small["i3d rgb"] == 3
    extractor.size = FrameSize(50, enlarge=False)
    scaled = load([extractor], SizedFile(Path("x"), 100, 200), 40)
    assert (scaled["decode and size"], scaled["flow"]) == (40 * 100 * 200, 40 * 50 * 100)


def test_an_estimate_adds_what_stages_do_and_divides_by_how_many_work_at_a_time():
    rates = Rates({"decode": 0.5, "net": 2.0}, busy_stages=2.5)
    assert rates.seconds({"decode": 10, "net": 10}) == pytest.approx(10)
    assert rates.seconds({"decode": 10, "net": 10, "never tried": 10}) == pytest.approx(10)


def test_a_trial_of_a_slow_network_ends_with_its_first_clips(tmp_path, monkeypatch):
    """Two clips, of twenty in each of two videos in flight: one to warm up, one to measure."""
    video = write_video(tmp_path / "v.mp4", constant(25, 320), size=(48, 40))
    extractor = Extractor(
        replace(I3D, config=I3D.config.model_copy(update={"streams": ("rgb",)}), weights=I3D.weights[:1])
    )
    extractor.size = FrameSize(40, enlarge=False)
    batches = []

    def slow(clips, crops):
        batches.append(len(clips))
        time.sleep(0.5)
        return clips[:, 0, 0, 0, :1].repeat(1024, axis=1)

    monkeypatch.setattr(extractor.backbones["rgb"], "extract", slow)
    rates = measure([extractor], [SizedFile(video, 48, 40)], 2, 0.1)
    assert batches == [1, 1] * 2
    assert rates.work["i3d rgb"] >= 0.5
    assert rates.busy_stages > 0


def test_what_a_short_trial_did_not_come_to_is_taken_from_the_first_clips():
    first = _Trial(Counter({"decode": 3.0, "net": 8.0}), Counter({"decode": 6.0, "net": 2.0}), 4.0)
    other = _Trial(Counter({"decode": 1.0}), Counter({"decode": 10.0}), 0.5)
    assert _rates(first, [other, _Trial(Counter(), Counter(), 0.0)]) == Rates({"decode": 0.1, "net": 4.0}, 2.0)
    assert _rates(first, []) == Rates({"decode": 0.5, "net": 4.0}, 2.75)


def test_a_trial_that_is_over_at_once_still_took_time():
    """End the trial before the first look at the clock, as with a short video and a fast backbone."""
    tried = _try(
        [Extractor(ExtractorSpec(ExtractConfig(streams=("rgb",))))],
        SizedFile(Path("x"), 4, 4),
        1,
        lambda line, path: line.times.add("decode and size", Spent(1e-3, 5, "frames")),
    )
    assert tried.done == Counter({"decode and size": 5 * 4 * 4})
    assert tried.seconds >= 1e-3 - 1e-9
    assert _rates(tried, []).busy_stages == pytest.approx(1)


def test_time_goes_by_from_the_first_work_to_the_last(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("wtal.extractors.execution.stage_times.time.perf_counter", lambda: clock[0])
    times = TimeTable()
    assert times.elapsed == 0
    times.add("a", Spent(2.0))
    assert times.elapsed == 2
    clock[0] = 101.0
    times.add("b", Spent(5.0))
    assert times.elapsed == 5
    clock[0] = 110.0
    times.add("a", Spent(1.0))
    assert times.elapsed == 14


def test_a_trial_of_what_cannot_be_read_gives_nothing(tmp_path):
    broken = tmp_path / "v.mp4"
    broken.write_bytes(b"no video")
    assert (
        measure([Extractor(ExtractorSpec(ExtractConfig(streams=("rgb",))))], [SizedFile(broken, 4, 4)], 2, 0.1) is None
    )


@pytest.mark.slow
def test_a_store_that_begins_since_flow_is_computed_otherwise_says_so(folder, tmp_path, monkeypatch):
    """Simulate a machine with another default implementation, and with another version of a library."""
    workspace, said = Workspace(tmp_path / "ws"), []
    monkeypatch.setattr(Reporter, "say", lambda self, text: said.append(text))
    extract_all([folder / "v0.mp4"], [ExtractConfig(flow="dis:fast")], workspace)
    first = next(workspace.features.iterdir()).name
    assert first.startswith("motion-pyramid-dis.fast-64x8@25-")
    assert not said
    (note,) = plan([folder], [ExtractConfig()], workspace, trial=0.1).notes
    assert note.endswith(
        f" is new next to {first}: flow is dis:fast there, dis:medium here; "
        "to continue that store, use --flow dis:fast where available"
    )
    extract_all([folder / "v0.mp4"], [ExtractConfig()], workspace)
    assert said.pop() == note
    monkeypatch.setattr("cv2.__version__", "9.9")
    extract_all([folder / "v0.mp4"], [ExtractConfig(flow="dis:fast")], workspace)
    assert f"is new next to {first}: for dis:fast, opencv is " in said[0]
    assert said.pop().endswith("'9.9' here")
    extract_all([folder / "v0.mp4"], [ExtractConfig(flow="dis:fast", stride=4)], workspace)
    extract_all([folder / "v1.mp4"], [ExtractConfig(flow="dis:fast")], workspace)
    extract_all([folder / "v0.mp4"], [ExtractConfig(flow="dis:ultrafast")], workspace)
    assert not [line for line in said if "begins" in line]
