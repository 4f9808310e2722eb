"""Files that every current browser plays unchanged, by container, codecs, pixels and edit list."""

from wtal.extractors.decoding.probe import opened
from wtal.extractors.decoding.reader import VideoInfo
from wtal.extractors.decoding.repaired import clock_jumps

_PLAYED = {
    ".mp4": ("h264", "vp9", "av1"),
    ".m4v": ("h264",),
    ".mov": ("h264",),
    ".webm": ("vp8", "vp9", "av1"),
}
"""Extension -> codecs of the picture. For pages on disk, browsers go by the extension first."""
_CONTAINERS = {".webm": "matroska,webm"}
_PIXELS = {"h264": ("yuv420p", "yuvj420p"), "av1": ("yuv420p", "yuv420p10le")}
_SOUND = {".webm": ("opus", "vorbis")}
_SOUND_OF_MP4 = ("aac", "mp3", "opus", "flac")


def why_not_played(info: VideoInfo) -> str:
    """Return why some current browser does not play a file, or plays it differently from wtal; "" if all play it."""
    suffix = info.path.suffix.lower()
    codecs = _PLAYED.get(suffix, ())
    if not codecs or not info.container.startswith(_CONTAINERS.get(suffix, "mov")):
        return f"the container ({suffix.lstrip('.') or info.container})"
    if info.codec not in codecs:
        return f"the codec ({info.codec})"
    if info.pixel_format not in _PIXELS.get(info.codec, ("yuv420p",)):
        return f"the pixels ({info.pixel_format})"
    if info.reassembled:
        return "the edit list"
    if info.video_streams > 1:
        return "several pictures in one file"
    if clock_jumps(info):
        return "timestamps that jump"
    return _sound(info, _SOUND.get(suffix, _SOUND_OF_MP4))


def _sound(info: VideoInfo, played: tuple[str, ...]) -> str:
    with opened(info.path) as container:
        codecs = [stream.codec_context.codec.canonical_name for stream in container.streams.audio]
    return f"the sound ({codecs[0]})" if codecs and codecs[0] not in played else ""
