"""One suite for all readers: frame k is frame k, at its time, upright; `probe` and `choose`."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, write_changing_size, write_two_streams, write_video
from wtal.errors import VideoError
from wtal.extractors.decoding.probe import probe
from wtal.extractors.decoding.reader import VideoBroken
from wtal.extractors.decoding.resample import Sampler
from wtal.extractors.readers import READERS, load_reader, read

ODD = SHARED / "data" / "odd"
QUIET = {"x265-params": "log-level=none"}
FAST = {"deadline": "realtime", "cpu-used": "8"}
KINDS = {
    "25.mp4": {"times": constant(25, 30)},
    "30.mkv": {"times": [Fraction(round(t * 1000), 1000) for t in constant(30, 30)]},
    "29_97.mp4": {"times": constant(Fraction(30000, 1001), 30), "unit": Fraction(1, 30000)},
    "19_62.mp4": {"times": constant(Fraction(981, 50), 30), "unit": Fraction(1, 981)},
    "variable.mp4": {"times": [Fraction(k * k, 200) + Fraction(k, 25) for k in range(30)]},
    "b-frames.mp4": {"times": constant(25, 40), "options": {"bf": "3", "g": "12"}},
    "start.mkv": {"times": constant(25, 30, Fraction(5, 2))},
    "start.mp4": {"times": constant(25, 30, Fraction(5, 2))},
    "odd-sides.webm": {"times": constant(25, 20), "codec": "libvpx-vp9", "size": (65, 49), "options": FAST},
    "hevc-10-bit.mp4": {
        "times": constant(25, 30),
        "codec": "libx265",
        "pixel_format": "yuv420p10le",
        "options": QUIET,
    },
    "one-frame.mp4": {"times": [Fraction(0)]},
}
REFUSED = {
    ("hevc-10-bit.mp4", "decord"),
    ("hevc-10-bit.mp4", "opencv"),
    ("hevc-10-bit.mp4", "torchcodec"),
    ("odd-sides.webm", "decord"),
    ("odd-sides.webm", "torchcodec"),
}


@pytest.fixture(scope="module", params=sorted(KINDS))
def numbered(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / request.param
    return write_video(path, **KINDS[request.param]), KINDS[request.param]["times"]


def usable(name: str) -> str:
    """The name of a reader, or a skip that says why it cannot be used here."""
    if reason := READERS.load(name).why_not():
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(params=READERS.names())
def reader(request):
    return usable(request.param)


def read_all(path: Path, reader: str):
    """Frames of a file, and the error at its end."""
    found = []
    complaint = None
    try:
        for frame in read(probe(path), reader):
            found.append(frame)
    except VideoBroken as error:
        complaint = str(error)
    return found, complaint


def test_frame_k_is_frame_k_at_its_time(numbered, reader):
    path, times = numbered
    if (path.name, reader) in REFUSED:
        with pytest.raises(VideoError, match=f"{reader} is not reliable on"):
            read_all(path, reader)
        return
    frames, complaint = read_all(path, reader)
    assert complaint is None
    assert [number_in(frame.image) for frame in frames] == list(range(len(times)))
    assert [frame.time for frame in frames] == times
    assert all(frame.image.dtype == np.uint8 and frame.duration > 0 and not frame.guessed for frame in frames)


def test_sampled_frames_show_their_second(numbered, reader):
    path, times = numbered
    if (path.name, reader) in REFUSED:
        pytest.skip("this reader refuses the file")
    info = probe(path)
    sampler = Sampler(read(info, reader), info, Fraction(10))
    shown = [number_in(image) for image in sampler]
    assert shown == [max(k for k, t in enumerate(times) if t - times[0] <= Fraction(j, 10)) for j in range(len(shown))]
    assert sampler.summary(reader).start == times[0]


def test_header(numbered):
    path, times = numbered
    info = probe(path)
    assert info.start == times[0]
    assert info.video_streams == 1
    assert not info.edited
    assert info.rotation == 0
    assert load_reader("pyav").version().startswith(av.__version__)


@pytest.mark.parametrize("rotation", [90, 180, -90])
@pytest.mark.parametrize("name", ["pyav", "opencv", "torchcodec"])
def test_rotated_files_stand_upright(tmp_path, rotation, name):
    path = write_video(tmp_path / "rotated.mp4", constant(25, 5), rotation=rotation)
    frames, _ = read_all(path, usable(name))
    capture = cv2.VideoCapture(str(path))
    for frame in frames:
        turned_by_opencv = capture.read()[1][..., ::-1]
        assert np.array_equal(frame.image, turned_by_opencv)
    assert number_in(np.rot90(frames[4].image, -rotation // 90)) == 4
    with pytest.raises(VideoError, match="use --reader pyav"):
        read_all(path, "decord")


@pytest.mark.parametrize("name", ["pyav", "opencv", "torchcodec"])
def test_edit_list_hides_frames(tmp_path, name):
    path = write_video(
        tmp_path / "edited.mp4",
        constant(25, 30, Fraction(-10, 25)),
        options={"bf": "0"},
        mux={"avoid_negative_ts": "disabled", "use_editlist": "1"},
    )
    frames, _ = read_all(path, usable(name))
    assert probe(path).edited
    assert [number_in(frame.image) for frame in frames] == list(range(10, 30))
    with pytest.raises(VideoError, match="decord sees 30 frames, but the file has 20"):
        read_all(path, "decord")


def test_largest_of_several_streams(tmp_path):
    path = write_two_streams(tmp_path / "two.mp4", constant(25, 10), (64, 48), (128, 96))
    info = probe(path)
    assert (info.stream, info.width, info.video_streams) == (1, 128, 2)
    assert [number_in(frame.image) for frame in read(info, "pyav")] == list(range(10))
    for name in ("opencv", "decord"):
        with pytest.raises(VideoError, match=r"(several|2) video streams"):
            read_all(path, name)


def test_picture_size_that_changes_on_the_way(tmp_path):
    path = write_changing_size(tmp_path / "changing.mp4", (128, 96), (64, 48), 20)
    info = probe(path)
    sampler = Sampler(read(info, "pyav"), info, Fraction(25))
    images = list(sampler)
    assert [number_in(image) for image in images] == list(range(40))
    assert {image.shape for image in images} == {(96, 128, 3), (48, 64, 3)}
    assert "20 frames were scaled" in sampler.summary("pyav").notes[0]
    with pytest.raises(VideoError, match="change of the picture size"):
        read_all(path, "decord")


def test_truncated_file_gives_what_it_has(tmp_path):
    path = write_video(tmp_path / "whole.mp4", constant(25, 200), mux={"movflags": "faststart"}, options={"g": "20"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    info = probe(path)
    sampler = Sampler(read(info, "pyav"), info, Fraction(25))
    numbers = [number_in(image) for image in sampler]
    summary = sampler.summary("pyav")
    assert 20 < len(numbers) < 190
    assert numbers[:-2] == list(range(len(numbers) - 2))
    assert summary.shortfall == 8 - Fraction(summary.decoded, 25)
    assert "before its declared end" in " ".join(summary.notes)


def test_damage_in_the_middle_is_passed_over_and_told(tmp_path):
    path = write_video(tmp_path / "damaged.mp4", constant(25, 100), options={"g": "10", "bf": "0"})
    with av.open(str(path)) as container:
        entry = container.streams.video[0].index_entries[50]
        place, size = entry.pos, entry.size  # entries end with their container
    data = bytearray(path.read_bytes())
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    frames, complaint = read_all(path, "pyav")
    numbers = {round(frame.time * 25): number_in(frame.image) for frame in frames}
    assert complaint is not None
    assert "1 of 100 packets could not be decoded" in complaint
    assert all(numbers[k] == k for k in (*range(48), *range(60, 100)))
    again, _ = read_all(path, "pyav")
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, again, strict=True))


@pytest.mark.parametrize("name", ["-dash.mp4", "a:b.mp4", "http:%03d.mp4", "sp ace 'é.mp4"])
def test_names_are_only_names(tmp_path, monkeypatch, reader, name):
    write_video(tmp_path / name, constant(25, 3))
    monkeypatch.chdir(tmp_path)
    frames, _ = read_all(Path(name), reader)
    assert [number_in(frame.image) for frame in frames] == [0, 1, 2]


def test_files_that_are_no_videos(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "notes.txt").write_text("no video\n" * 100)
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((20, 20, 3), np.uint8))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    reasons = {
        "absent.mp4": "does not exist",
        "empty.mp4": "empty",
        ".": "folder",
        "noise.mp4": "not a video that ffmpeg can open: Invalid data",
        "notes.txt": "picture or a text|not a video",
        "picture.png": "picture",
        "sound.wav": "no video stream: the file holds audio",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError, match=reason):
            probe(tmp_path / name)


# decoded frames, N at 25 fps
ODD_FILES = {
    "-video-with-dash-.mp4": (5, 125),
    "av1_video.mkv": (125, 125),
    "bitmap.mp4": (5, 125),
    "bt601_full_range.mp4": (60, 50),
    "corrupted.mp4": (49, 125),
    "demo_skeleton.mp4": (72, 64),
    "discard_first_keyframe.mp4": (25, 25),
    "h265_10bits.mp4": (30, 25),
    "nasa_13013.mp4": (390, 325),
    "nasa_13013_rotated.mp4": (17, 14),
    "no_duration.webm": (74, 123),
    "sine_stereo_mp2.mpg": (100, 100),
    "test.avi": (164, 164),
    "test_non_zero_start.mp4": (12, 10),
    "testsrc2_mpeg4.mp4": (1, 1),
    "testsrc2_odd_height_and_width_mpeg2.mp4": (10, 10),
    "testsrc2_odd_width_vp9.mp4": (25, 25),
    "testsrc2_vp8.webm": (30, 25),
    "unordered.mov": (4, 3),
    "video_90.mov": (3, 2),
}


@needs_shared
@pytest.mark.parametrize("name", sorted(ODD_FILES))
def test_odd_files(name):
    info = probe(ODD / name)
    sampler = Sampler(read(info, "pyav"), info, Fraction(25))
    frames = sum(1 for _ in sampler)
    summary = sampler.summary("pyav")
    assert (summary.decoded, summary.frames) == ODD_FILES[name]
    assert frames == summary.frames
    assert bool(summary.notes) == (name == "corrupted.mp4")


@needs_shared
@pytest.mark.parametrize("name", ["nasa_13013_rotated.mp4", "video_90.mov", "bt601_full_range.mp4", "bitmap.mp4"])
def test_odd_files_look_as_in_opencv(name):
    image = next(read(probe(ODD / name), "pyav")).image
    assert np.array_equal(image, cv2.VideoCapture(str(ODD / name)).read()[1][..., ::-1])


@needs_shared
def test_odd_files_that_hold_no_video():
    for name, reason in {"empty.mp4": "empty", "nasa_13013.mp4.audio.mp3": "holds audio"}.items():
        with pytest.raises(VideoError, match=reason):
            probe(ODD / name)


@needs_shared
@pytest.mark.parametrize(
    ("path", "decoded", "sampled", "start"),
    [
        ("activitynet/v_GGSY1Qvo990.mp4", 355, 452, 0),
        ("activitynet/v_ZNVhz7ctTq0.mp4", 420, 350, 0),
        ("kth-untrimmed/videos/train_000.mp4", 590, 590, 0),
        ("kth-untrimmed/videos/val_000.mp4", 329, 329, 0),
    ],
)
def test_real_videos_agree_over_readers(reader, path, decoded, sampled, start):
    info = probe(SHARED / "data" / path)
    sampler = Sampler(read(info, reader), info, Fraction(25))
    assert sum(1 for _ in sampler) == sampled
    summary = sampler.summary(reader)
    assert (summary.decoded, summary.start, summary.shortfall) == (decoded, start, 0)


@needs_shared
def test_a_still_picture_is_no_video():
    with pytest.raises(VideoError, match=r"a picture or text, not a video \(format avif\)"):
        probe(SHARED / "cases" / "12_small" / "photo.avif")


@pytest.mark.parametrize("brand", ["avif", "heic", "mif1"])
def test_brands_of_pictures(tmp_path, brand):
    path = write_video(tmp_path / "x.mp4", constant(25, 1))
    path.write_bytes(path.read_bytes().replace(b"ftypisom", b"ftyp" + brand.encode(), 1))
    with pytest.raises(VideoError, match=f"not a video .format {brand}"):
        probe(path)
