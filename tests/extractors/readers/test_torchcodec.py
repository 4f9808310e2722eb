"""torchcodec: what it refuses of each kind, why it cannot be used, and decoding on a CUDA device."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from tests.extractors.readers.test_reader_limits import KINDS, damaged, right_or_refused, write
from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, number_in, write_two_streams, write_video
from wtal.errors import MissingExtraError, UsageError, VideoError
from wtal.extractors.decoding.probe import probe
from wtal.extractors.readers import READERS, find_reader, load_reader, read, reader_identity, reader_names
from wtal.extractors.readers import torchcodec as leaf
from wtal.pipeline.inspection.doctor import examine
from wtal.pipeline.inspection.inventory import inventory
from wtal.pipeline.workspace import Workspace

REFUSALS = {
    "interlaced.mp4": "interlaced video",
    "interlaced.mkv": "interlaced video",
    "interlaced.mpg": "mpeg, mpeg2video",
    "later.mkv": "mpeg2video",
    "raw.h264": "files without timestamps",
    "raw.m2v": "mpeg2video, mpegvideo",
    "10-bit.mp4": "format yuv420p10le",
    "10-bit.mkv": "format yuv422p10le",
    "prores.mov": "format yuv422p10le",
    "hlg.mp4": "format yuv420p10le",
    "subsampled.mkv": "format yuv410p",
    "odd.mkv": "odd picture sides",
    "odd.webm": "odd picture sides",
    "b-frames.avi": "B-frames in AVI",
    "stream.ts": "mpegts",
    "stream.mpg": "mpeg, mpeg2video",
    "one-time.mkv": "files whose timestamps jump",
    "damaged.mp4": "cannot decode this file",
    "truncated.mp4": "cannot decode this file",
    "stray.mp4": "files whose timestamps jump",
    "stray.mkv": "files whose timestamps jump",
    "stray.ts": "mpegts",
    "sizes.mp4": "change of the picture size",
}
"""Kinds of `test_reader_limits` that it refuses; it is right on the others."""

ODD = {
    "corrupted.mp4": "cannot decode this file",
    "h265_10bits.mp4": "format yuv420p10le",
    "sine_stereo_mp2.mpg": "mpeg, mpeg1video",
    "test.avi": "B-frames in AVI",
    "testsrc2_odd_height_and_width_mpeg2.mp4": "mpeg2video",
    "testsrc2_odd_width_vp9.mp4": "odd picture sides",
}
CASES = {
    "01_stray_timestamp/forward.flv": "files whose timestamps jump",
    "01_stray_timestamp/forward.mkv": "files whose timestamps jump",
    "01_stray_timestamp/forward.mp4": "files whose timestamps jump",
    "02_opencv_reader/elementary.h264": "files without timestamps",
    "02_opencv_reader/hdr.mov": "format yuv420p10le",
    "02_opencv_reader/interlaced.mp4": "interlaced video",
    "03_picture_begins_late/late.mp4": "",
    "07_mirrored/antitranspose.mp4": "does not mirror pictures",
    "07_mirrored/hflip.mp4": "does not mirror pictures",
    "07_mirrored/rot90.mp4": "",
}
FFMPEG = "\n".join(
    f"FFmpeg version {major}:\nOSError: libavutil.so.{number}: cannot open shared object file: No such file"
    for major, number in ((8, 60), (7, 59))
)
CUDA = "libnvrtc.so.13: cannot open shared object file: No such file or directory"


@pytest.fixture
def real():
    if reason := leaf.why_not():
        pytest.skip(f"torchcodec: {reason}")


def refused(path: Path, words: str) -> None:
    """Assert that the file is refused for that reason, or read as by the reference where there is none."""
    assert right_or_refused(path, "torchcodec") == (not words)
    if words:
        with pytest.raises(VideoError, match=words):
            list(read(probe(path), "torchcodec"))


@pytest.mark.parametrize("kind", KINDS)
def test_refusals_by_kind(tmp_path, kind, real):
    refused(KINDS[kind](tmp_path / kind), REFUSALS.get(kind, ""))


@needs_shared
def test_refusals_among_the_odd_files(real):
    for path in sorted((SHARED / "data" / "odd").glob("*.*")):
        if path.suffix not in (".mp3", ".decord", ".mmaction2", ".moviepy", ".torchcodec") and path.stat().st_size:
            if path.name == "discard_first_keyframe.mp4":
                right_or_refused(path, "torchcodec")  # refused before torchcodec 0.17, right since
            else:
                refused(path, ODD.get(path.name, ""))


@needs_shared
@pytest.mark.parametrize("name", CASES)
def test_refusals_among_the_cases(name, real):
    refused(SHARED / "cases" / name, CASES[name])


@pytest.mark.parametrize("size", [(64, 48), (80, 48), (66, 50)])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p"])
def test_colours_are_those_of_the_reference_whatever_the_width(tmp_path, size, pixels, real):
    """torchcodec converts pictures by another way where their width is no multiple of 32."""
    for number, colours in enumerate([None, (1, 1, 1), (5, 6, 5), (9, 16, 9)]):
        assert right_or_refused(
            write(tmp_path / f"{number}.mkv", None, pixels, "libx264", size, 25, colours), "torchcodec"
        )


@pytest.mark.parametrize(
    "options", [{"x264-params": "open-gop=1:log=-1", "g": "8"}, {"x264-params": "intra-refresh=1:keyint=10:log=-1"}]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_streams_with_few_points_to_begin_at(tmp_path, options, suffix, real):
    assert right_or_refused(write(tmp_path / f"x.{suffix}", {"bf": "3", **options}), "torchcodec")


def test_the_stream_that_was_chosen(tmp_path, real):
    path = write_two_streams(tmp_path / "two.mp4", constant(25, 10), (64, 48), (128, 96))
    assert [number_in(frame.image) for frame in read(probe(path), "torchcodec")] == list(range(10))


def test_version_names_the_library_that_decodes(real):
    assert reader_identity("torchcodec")["versions"]["torchcodec"] == leaf.version()
    assert "(libavcodec " in leaf.version()


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Put a package `torchcodec` of this text in the place of the one that is installed, if any is."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)

    def put(text: str) -> None:
        (tmp_path / "torchcodec").mkdir()
        (tmp_path / "torchcodec" / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        del sys.modules[name]


def test_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert leaf.why_not() == "it is not installed; run: pip install 'wtal[torchcodec]'"
    with pytest.raises(VideoError, match=r"^reader torchcodec cannot be used here: it is not installed; run: pip inst"):
        load_reader("torchcodec")
    with pytest.raises(VideoError, match=r"^reader torchcodec:cuda cannot be used here: it is not installed"):
        load_reader("torchcodec:cuda")


def test_not_installed_and_called_nevertheless(monkeypatch, install):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wtal\[torchcodec\]'"):
        leaf.version()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"raise RuntimeError({FFMPEG!r})", r"^it needs the shared libraries of FFmpeg .*apt-get install ffmpeg"),
        (
            f"try:\n    raise OSError({CUDA!r})\nexcept OSError as error:\n    raise OSError('no library') from error",
            r"^it needs libnvrtc\.so\.13, which torch .* lacks.*pip install torchcodec==0\.13\.0$",
        ),
        (
            "raise RuntimeError('undefined symbol: x\\nmore')",
            r"^it does not load with torch .*: undefined symbol: x$",
        ),
        ("raise RuntimeError", r"^it does not load with torch .*: RuntimeError$"),
    ],
)
def test_installed_but_not_to_be_loaded(install, tmp_path, text, reason):
    install(text)
    assert "\n" not in (leaf.why_not() or "")
    with pytest.raises(VideoError, match=reason.replace("^", "^reader torchcodec cannot be used here: ")):
        load_reader("torchcodec")
    lines = examine(Workspace(tmp_path / "workspace"))["readers"]
    assert lines["torchcodec"] == lines["torchcodec:cuda"] == leaf.why_not()
    assert f"not usable here: {leaf.why_not()}" in inventory("readers")["torchcodec"]


class Device:
    """Stands for torchcodec's decoder: the reference's frames, on no device but the processor."""

    calls: list[dict[str, object]] = []  # noqa: RUF012 - emptied by the fixture
    cpu_fallback = False
    late = 0.0
    lost = 0
    error: Exception | None = None

    def __init__(self, path: str, **settings: object) -> None:
        self.calls.append(settings)
        self._frames = list(read(probe(Path(path)), "pyav"))

    def __len__(self) -> int:
        return len(self._frames) - self.lost

    def get_frame_at(self, number: int) -> SimpleNamespace:
        if self.error:
            raise self.error
        frame = self._frames[number]
        return SimpleNamespace(pts_seconds=float(frame.time) + self.late, data=torch.from_numpy(frame.image))


@pytest.fixture
def device(install, monkeypatch):
    """A torchcodec with CUDA, and a CUDA device, as far as the reader can see."""
    whole = {name: ModuleType(name) for name in ("torchcodec", "torchcodec.decoders", "torchcodec._core")}
    for name, module in whole.items():
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        monkeypatch.setitem(sys.modules, name, module)
    top, decoders, core = whole.values()
    top.decoders, top._core, top.__version__ = decoders, core, "0.17.0+cu130"
    core.get_ffmpeg_library_versions = lambda: {"libavcodec": [59, 37, 100]}
    decoders.VideoDecoder = type("Decoder", (Device,), {"calls": []})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return decoders.VideoDecoder


def test_on_a_device_by_name_alone(tmp_path, device):
    path = write_video(tmp_path / "x.mp4", constant(25, 5))
    frames = list(read(probe(path), "torchcodec:cuda"))
    assert [(frame.time * 25, number_in(frame.image)) for frame in frames] == [(k, k) for k in range(5)]
    assert [call["device"] for call in device.calls] == ["cuda"]
    list(read(probe(path), "torchcodec"))
    assert device.calls[-1] == {**device.calls[0], "device": "cpu"}
    versions = {"torchcodec:cuda": "0.17.0+cu130 (libavcodec 59.37.100) on CUDA 13.0"}
    assert reader_identity("torchcodec:cuda") == {"policy": "torchcodec:cuda", "versions": versions}
    assert find_reader("torchcodec:cuda").why_not() is None
    assert "not usable here" not in inventory("readers")["torchcodec:cuda"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu_fallback": True}, "the CUDA device does not decode this file: use --reader torchcodec or"),
        ({"late": 0.04}, "torchcodec's timestamps are not those of the file: use --reader pyav"),
        ({"lost": 1}, "torchcodec sees 4 frames, but the file has 5: use --reader pyav"),
        ({"error": RuntimeError("Could not push packet")}, "torchcodec cannot decode this file: use --reader pyav"),
    ],
)
def test_what_a_device_does_not_give_is_refused(tmp_path, device, monkeypatch, change, words):
    info = probe(write_video(tmp_path / "x.mp4", constant(25, 5)))
    for name, value in change.items():
        monkeypatch.setattr(device, name, value)
    with pytest.raises(VideoError, match=words):
        list(read(info, "torchcodec:cuda"))


def test_a_full_memory_is_no_fault_of_the_file(tmp_path, device, monkeypatch):
    monkeypatch.setattr(device, "error", torch.cuda.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        list(read(probe(write_video(tmp_path / "x.mp4", constant(25, 5))), "torchcodec:cuda"))


def test_a_device_is_refused_where_there_is_none(tmp_path, device, monkeypatch):
    info = probe(write_video(tmp_path / "x.mp4", constant(25, 5), rotation=90))
    with pytest.raises(VideoError, match="torchcodec:cuda does not support rotated files: use --reader pyav"):
        list(read(info, "torchcodec:cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_reader("torchcodec:cuda").why_not() == "torch sees no CUDA device"
    monkeypatch.setattr(sys.modules["torchcodec"], "__version__", "0.13.0+cpu")
    assert "torchcodec 0.13.0+cpu decodes only on the CPU" in find_reader("torchcodec:cuda").why_not()


def test_names_behind_a_colon():
    assert reader_names() == [*READERS.names(), "torchcodec:cuda"]
    assert find_reader("torchcodec") is leaf
    for name in ("torchcodec:", "torchcodec:cpu", "pyav:cuda", "torchcodek:cuda"):
        with pytest.raises(UsageError, match="there is no reader"):
            find_reader(name)


@pytest.mark.gpu
def test_frames_of_a_cuda_device(tmp_path, cuda):
    if reason := find_reader("torchcodec:cuda").why_not():
        pytest.skip(f"torchcodec:cuda: {reason}")
    path = write_video(tmp_path / "x.mp4", constant(25, 40), size=(256, 192), options={"bf": "3", "g": "12"})
    wanted, came = (list(read(probe(path), name)) for name in ("pyav", "torchcodec:cuda"))
    assert [(f.time, f.duration, number_in(f.image)) for f in came] == [
        (f.time, f.duration, k) for k, f in enumerate(wanted)
    ]
    for frame, other in zip(came, wanted, strict=True):
        assert np.abs(frame.image.astype(int) - other.image).mean() < 10  # the same picture, in other arithmetic
    with pytest.raises(VideoError, match="torchcodec"):
        list(read(probe(damaged(tmp_path / "damaged.mp4")), "torchcodec:cuda"))
