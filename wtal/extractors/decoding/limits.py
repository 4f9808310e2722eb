"""Refuse videos on which a reader other than the reference was seen to return different frames.

Measured on small videos of each kind, frame by frame, against PyAV. All of them convert the colours of interlaced
frames differently or not at all (OpenCV then returns an uninitialized buffer), round colours of more than 8 bits
differently, and have no times of their own in AVI files with B-frames, where torchcodec loses the last frames.
"""

from wtal.errors import VideoError
from wtal.extractors.decoding.reader import VideoInfo

_SUBSAMPLED = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
_WHOLE = frozenset(
    {"yuv444p", "yuvj444p", "gray", "rgb24", "bgr24", "rgba", "bgra", "bgr0", "rgb0", "gbrp", "pal8", "rgb8", "bgr8"}
)
EIGHT_BIT = _SUBSAMPLED | _WHOLE
"""Pixel formats of at most 8 bits per value for which all readers return the same colours."""

MIXED_CODECS = frozenset({"mpeg1video", "mpeg2video", "vc1", "wmv3"})
"""Codecs whose headers do not reveal whether interlaced frames come later."""


def require_within(info: VideoInfo, reader: str, *, wide_colours: bool, odd_sides: bool) -> None:
    """Refuse a video that `reader` gets wrong; `wide_colours` and `odd_sides` are accepted if True.

    Raises:
        VideoError: naming the reader and the property of the video.
    """
    obstacles = {
        "interlaced video": info.interlaced,
        f"pixels of the format {info.pixel_format}": info.pixel_format not in EIGHT_BIT,
        "colours of BT.2020 or HDR": info.wide_colours and not wide_colours,
        "odd picture sides": info.pixel_format in _SUBSAMPLED and info.width % 2 + info.height % 2 and not odd_sides,
        "B-frames in AVI": info.container == "avi" and info.reordered,
    }
    if obstacle := next((name for name, applies in obstacles.items() if applies), None):
        raise VideoError(f"{reader} is not reliable on {obstacle}: use --reader pyav")
