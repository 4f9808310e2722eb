"""Clips of a file: their pictures with times, and their sound."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.videos import constant, number_in, numbered_image
from wtal.errors import VideoError
from wtal.extractors.decoding.player_clock import first_picture
from wtal.extractors.decoding.probe import probe
from wtal.extractors.readers import READERS
from wtal.extractors.viewing.clip import copy_clip, copy_suffix, encode_clip, encoded_suffix, mark_of
from wtal.extractors.viewing.stretch import stretches

RATE = 48000
VARIABLE = [
    Fraction(k, 25) + (Fraction(1, 50) if k % 3 else 0) + (Fraction(k // 40) * Fraction(1, 2)) for k in range(120)
]
X264 = {"g": "25", "bf": "2", "sc_threshold": "0"}
X265 = {"x265-params": "keyint=25:log-level=none"}
KINDS = {
    "h264": ("a.mp4", "libx264", "aac", constant(25, 120), X264),
    "h264-open": ("a.mp4", "libx264", "aac", constant(25, 120), {**X264, "x264-params": "open-gop=1"}),
    "hevc": ("a.mp4", "libx265", "aac", constant(Fraction(30000, 1001), 140), X265),
    "vp9": ("a.webm", "libvpx-vp9", "libopus", constant(25, 120), {"g": "25", "lag-in-frames": "0"}),
    "avi": ("a.avi", "mpeg4", "mp3", constant(25, 120), {"g": "25"}),
    "avi-b": ("a.avi", "mpeg4", "mp3", constant(25, 120), {"g": "25", "bf": "2"}),
    "ts": ("a.ts", "libx264", "aac", constant(25, 120), X264),
    "variable": ("a.mp4", "libx264", "aac", VARIABLE, X264),
    "pcm": ("a.mkv", "libx264", "pcm_s16le", constant(25, 120), X264),
    "late": ("a.mkv", "libx264", "aac", constant(25, 120, Fraction(1, 2)), X264),
    "silent": ("a.mp4", "libx264", None, constant(25, 120), X264),
}
SPANS = [(Fraction(0), Fraction(1, 2)), (Fraction(21, 20), Fraction(257, 100)), (Fraction(31, 10), Fraction(43, 10))]


def write(path, codec, sound_codec, times, options, rotation=0):
    """Write frames that show their number, with a tone in the second half of each second from time 0."""
    with av.open(str(path), "w") as out:
        rate = Fraction(len(times) - 1) / (times[-1] - times[0])
        picture = out.add_stream(codec, rate=rate.limit_denominator(1001), options=options)
        picture.width, picture.height, picture.pix_fmt = 128, 96, "yuv420p"
        picture.codec_context.time_base = 1 / rate if path.suffix == ".avi" else Fraction(1, 90000)
        if rotation:
            picture.set_display_rotation(rotation)
        end = times[-1] + Fraction(1, 25)
        if sound_codec:
            sound = out.add_stream(sound_codec, rate=RATE, layout="mono")
        unit, heard = picture.codec_context.time_base, 0
        for k, time in enumerate(times):
            while sound_codec and heard < min(float(time) + 0.04, float(end)) * RATE:
                t = (heard + np.arange(1024)) / RATE
                wave = np.where(t % 1 >= 0.5, np.sin(2 * np.pi * 1000 * t), 0.0) * 20000
                frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, heard, Fraction(1, RATE)
                out.mux(sound.encode(frame))
                heard += 1024
            frame = av.VideoFrame.from_ndarray(numbered_image(k, 128, 96), format="rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            out.mux(picture.encode(frame))
        out.mux(picture.encode())
        if sound_codec:
            out.mux(sound.encode())
    return path


def cut(path, span, encoded, tmp_path):
    """Cut a span; return the clip and its part of the file."""
    info = probe(path)
    first, _ = first_picture(info)
    (part,) = stretches(info, first, [span])
    suffix = encoded_suffix() if encoded else copy_suffix(info)
    target = tmp_path / f"clip{suffix}"
    with target.open("w+b") as file:
        (encode_clip if encoded else copy_clip)(info, part, file, suffix, "mark 0.0")
    return target, part


def times_of(path):
    """Seconds of frames on the file's clock as read by wtal; an AVI written here lacks one frame."""
    frames = [(frame.time, number_in(frame.image)) for frame in READERS.load("pyav").frames(probe(path))]
    assert [number for _, number in frames] == list(range(len(frames)))
    return [time for time, _ in frames]


def shown(path):
    """Pairs (seconds, number) of all pictures as a player shows them."""
    with av.open(str(path)) as container:
        begin = (container.start_time or 0) / av.time_base
        return [(float(f.time) - begin, number_in(f.to_ndarray(format="rgb24"))) for f in container.decode(video=0)]


def duration(path):
    with av.open(str(path)) as container:
        return container.duration / av.time_base


def tones(path):
    """Seconds at which a tone begins or ends on a player's clock, and the sound's first and last second."""
    with av.open(str(path)) as container:
        begin = (container.start_time or 0) / av.time_base
        pieces = [(float(f.time) - begin, f.to_ndarray(), f) for f in container.decode(audio=0)]
    start, edges, loud = pieces[0][0], [], None
    resampled = np.concatenate([p.mean(axis=0) if p.shape[0] > 1 else p[0] for _, p, _ in pieces]).astype(float)
    rate = pieces[0][2].sample_rate
    window = rate // 200
    level = np.sqrt((resampled[: len(resampled) // window * window].reshape(-1, window) ** 2).mean(axis=1))
    for i, now in enumerate(level > 0.3 * level.max()):
        if loud is not None and now != loud:
            edges.append(start + i * window / rate)
        loud = now
    end = start + len(resampled) / rate
    # Half of a codec's first and last block is padding.
    return [edge for edge in edges if start + 0.05 < edge < end - 0.08], start, end


def in_step(edges, source):
    """Compare the borders of tones with those of the source."""
    with av.open(str(source)) as container:
        begin = (container.start_time or 0) / av.time_base
    own = np.array([edge + begin for edge in tones(source)[0]])
    return all(np.abs(own - edge).min() < 0.02 for edge in edges)


@pytest.mark.parametrize("span", SPANS, ids=["begin", "middle", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_never_shorter_and_says_by_how_much_it_begins_earlier(kind, span, tmp_path):
    name, *how = KINDS[kind]
    source, sound = write(tmp_path / name, *how), how[1]
    times = times_of(source)
    clip, part = cut(source, span, False, tmp_path)
    earlier = float(part.start - part.keyframe)
    assert earlier >= 0
    begin = float(times[0] + span[0]) - earlier
    pictures = shown(clip)
    late = pictures[0][0]  # where the sound of a copy begins before its first picture
    assert abs(late) < 0.03
    for second, number in pictures:
        assert second - late == pytest.approx(float(times[number]) - begin, abs=0.002), number
    wanted = [k for k, time in enumerate(times) if begin - 1e-4 <= time < float(times[0] + span[1])]
    assert [number for _, number in pictures][: len(wanted)] == wanted
    assert len(pictures) <= len(wanted) + 3
    assert duration(clip) >= float(part.end - part.keyframe) - 0.001
    if sound:
        edges, heard_from, heard_to = tones(clip)
        assert edges or part.seconds < 0.6
        assert in_step([edge - late + begin for edge in edges], source)
        assert heard_from < late + 0.05
        assert heard_to - late >= float(part.end - part.keyframe) - 0.01


@pytest.mark.parametrize("span", SPANS, ids=["begin", "middle", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoded_clip_is_exact(kind, span, tmp_path):
    name, *how = KINDS[kind]
    source, sound = write(tmp_path / name, *how), how[1]
    times = times_of(source)
    clip, _ = cut(source, span, True, tmp_path)
    begin, end = (float(times[0] + second) for second in span)
    inside = [k for k, time in enumerate(times) if begin < time < end - 1e-4]
    before = max(k for k, time in enumerate(times) if time <= begin + 1e-4)
    wanted = dict.fromkeys([before, *inside])
    pictures = shown(clip)
    assert [number for _, number in pictures] == list(wanted)
    for second, number in pictures:
        assert second == pytest.approx(max(0.0, float(times[number]) - begin), abs=0.002)
    assert duration(clip) == pytest.approx(end - begin, abs=0.034)
    if sound:
        edges, heard_from, heard_to = tones(clip)
        assert in_step([edge + begin for edge in edges], source)
        assert edges or end - begin < 0.6
        assert heard_from == pytest.approx(0, abs=0.03)
        assert heard_to == pytest.approx(end - begin, abs=0.034)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_turned_picture_stays_turned(rotation, encoded, tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", None, constant(25, 50), X264, rotation)
    clip, _ = cut(path, (Fraction(1, 2), Fraction(1)), encoded, tmp_path)
    assert probe(clip).rotation == probe(path).rotation == rotation % 360


def test_a_copy_of_what_mp4_does_not_hold_is_mkv(tmp_path):
    for name, codec, sound, suffix in (("a.mkv", "libx264", "pcm_s16le", ".mkv"), ("b.mkv", "libx264", "aac", ".mp4")):
        clip, _ = cut(write(tmp_path / name, codec, sound, constant(25, 30), X264), SPANS[0], False, tmp_path)
        assert clip.suffix == suffix
        whole = clip.read_bytes()
        assert cut(tmp_path / name, SPANS[0], False, tmp_path)[0].read_bytes() == whole
        assert mark_of(clip) == "mark 0.0"


def test_a_clip_that_is_cut_short_has_no_mark(tmp_path):
    for name, sound in (("a.mkv", "pcm_s16le"), ("b.mp4", "aac")):
        source = write(tmp_path / name, "libx264", sound, constant(25, 60), X264)
        info = probe(source)
        (part,) = stretches(info, Fraction(0), [(Fraction(0), Fraction(2))])
        clip = tmp_path / f"clip{copy_suffix(info)}"
        with clip.open("w+b") as file:
            copy_clip(info, part, file, clip.suffix, f"mark {float(part.last):.3f}")
        assert mark_of(clip) is not None
        clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
        assert mark_of(clip) is None


def test_what_does_not_decode_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", None, constant(25, 50), X264)
    info = probe(path)
    (part,) = stretches(info, Fraction(0), [(Fraction(1, 2), Fraction(1))])
    path.write_bytes(b"no video")
    with pytest.raises(VideoError, match="no clip could be encoded: Invalid data"):
        encode_clip(info, part, io.BytesIO(), ".mp4", "")
