"""torchcodec, read in sequence, for files that pass `limits` and the check of the packets' times.

It decodes with the FFmpeg of the system. Consecutive frames need no search, but before the first one it looks for
a key frame: in MPEG-TS and MPEG-PS it may then skip some frames, or all. Each frame has a time, in seconds as a float:
in whole units of the stream's time base, it must equal that of the packets in shown order. torchcodec rotates pictures
but does not mirror them, and it stops at whatever it cannot decode.

`torchcodec:cuda` decodes on the first CUDA device, with NVDEC. Colours are converted there by different arithmetic, so
its frames are not bit for bit those of the other readers, and features made from them go into a separate store.
"""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from wtal.errors import VideoError, lacks_memory, require
from wtal.extractors.decoding.limits import MIXED_CODECS, require_within
from wtal.extractors.decoding.packets import shown_times
from wtal.extractors.decoding.reader import Image, TimedFrame, VideoInfo, upright_shape
from wtal.extractors.readers import ReaderLeaf

# Frames at the beginning are skipped.
_BEGINS_LATE = ("mpegts", "mpeg", "mpegvideo")
# As many as the reference has: what a stream decodes to must not depend on the machine.
_THREADS = 4

_WITHOUT_CUDA = "torchcodec==0.13.0"
"""The last version whose wheel on PyPI is not linked with CUDA libraries."""


def version() -> str:
    """Return the versions of torchcodec and of the libavcodec that it loads.

    Raises:
        MissingExtra: when torchcodec is not installed.
    """
    library = _torchcodec()
    numbers = library._core.get_ffmpeg_library_versions()["libavcodec"]
    return f"{library.__version__} (libavcodec {'.'.join(map(str, numbers))})"


def why_not() -> str | None:
    """Return the reason if torchcodec is not installed or does not load: it needs libraries that it does not bring."""
    if importlib.util.find_spec("torchcodec") is None:
        return "it is not installed; run: pip install 'wtal[torchcodec]'"
    try:
        version()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return _fault(error)
    return None


def frames(info: VideoInfo) -> Iterator[TimedFrame]:
    """Yield frames in shown order, upright, native size.

    Raises:
        MissingExtra: when torchcodec is not installed.
        VideoError: when torchcodec is not reliable on the file, or cannot decode all of it.
    """
    return _frames(info, "cpu")


class _OnCard:
    """torchcodec on the first CUDA device, with NVDEC; its colours differ slightly from those of the other readers."""

    def version(self) -> str:
        """Return the versions of torchcodec, of the libavcodec that reads the file, and of CUDA."""
        return f"{version()} on CUDA {_cuda().version.cuda}"

    def why_not(self) -> str | None:
        """Return the reason if torchcodec does not load or lacks CUDA, or there is no CUDA device."""
        if (reason := why_not()) is not None:
            return reason
        build = str(_torchcodec().__version__)
        if build.endswith("+cpu"):
            return f"torchcodec {build} decodes only on the CPU; install a later one, with a CUDA build of torch"
        return None if _cuda().cuda.is_available() else "torch sees no CUDA device"

    def frames(self, info: VideoInfo) -> Iterator[TimedFrame]:
        """Yield frames in shown order, native size.

        Raises:
            MissingExtra: when torchcodec is not installed.
            VideoError: when torchcodec is not reliable on the file, or the device does not decode all of it.
        """
        if info.rotation:
            raise VideoError("torchcodec:cuda does not support rotated files: use --reader pyav")
        return _frames(info, "cuda")


VARIANTS: Mapping[str, ReaderLeaf] = {"cuda": _OnCard()}


def _frames(info: VideoInfo, device: str) -> Iterator[TimedFrame]:
    library = _torchcodec()
    _require_right(info)
    shown = shown_times(info, "torchcodec")
    try:
        decoder = library.decoders.VideoDecoder(
            str(info.path),
            stream_index=info.stream,
            dimension_order="NHWC",
            num_ffmpeg_threads=_THREADS,
            device=device,
        )
        if len(decoder) != len(shown):
            raise VideoError(f"torchcodec sees {len(decoder)} frames, but the file has {len(shown)}: use --reader pyav")
        for number, (time, duration) in enumerate(shown):
            frame = decoder.get_frame_at(number)
            if device != "cpu" and decoder.cpu_fallback:
                raise VideoError("the CUDA device does not decode this file: use --reader torchcodec or --reader pyav")
            if _snap(frame.pts_seconds, info.time_base) != time:
                raise VideoError("torchcodec's timestamps are not those of the file: use --reader pyav")
            yield TimedFrame(time, duration, _image(frame.data, info))
    except (RuntimeError, ValueError, IndexError) as error:
        if lacks_memory(error):
            raise
        raise VideoError("torchcodec cannot decode this file: use --reader pyav") from error


def _require_right(info: VideoInfo) -> None:
    if info.mirrored:
        raise VideoError("torchcodec does not mirror pictures: use --reader pyav")
    if kinds := {info.container, info.codec} & {*_BEGINS_LATE, *MIXED_CODECS}:
        raise VideoError(f"torchcodec is not reliable on {', '.join(sorted(kinds))}: use --reader pyav")
    require_within(info, "torchcodec", wide_colours=True, odd_sides=False)


def _snap(seconds: float, unit: Fraction) -> Fraction:
    return round(Fraction(seconds) / unit) * unit


def _image(data: Any, info: VideoInfo) -> Image:
    """Copy an (H, W, 3) uint8 tensor, already upright, to the processor's memory."""
    image: Image = np.ascontiguousarray(data.cpu().numpy())
    if image.shape != upright_shape(info.width, info.height, info):
        raise VideoError("torchcodec returns pictures of a wrong size for this file: use --reader pyav")
    return image


def _torchcodec() -> Any:
    return require("torchcodec", "torchcodec")


def _cuda() -> Any:
    """Return the module torch, which torchcodec loads in any case."""
    return require("torch", "torchcodec")


def _fault(error: Exception) -> str:
    """Return why torchcodec does not load; the error of its import quotes the error of each library that it tried."""
    import torch

    missing = re.findall(r"(lib[\w.+-]+?\.so[.\d]*): cannot open shared object file", _whole(error))
    others = [name for name in missing if not re.match(r"lib(av|sw)[a-z]+\.so", name)]
    if others:
        return (
            f"it needs {others[0]}, which torch {torch.__version__} lacks; install a torch with that CUDA, or "
            f"run, to decode on the CPU: pip install {_WITHOUT_CUDA}"
        )
    if missing:
        return "it needs the shared libraries of FFmpeg (4 to 8); run: apt-get install ffmpeg, or: conda install ffmpeg"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"it does not load with torch {torch.__version__}: {first}"


def _whole(error: BaseException | None) -> str:
    """Return the text of an error and of its causes."""
    return "" if error is None else f"{error}\n{_whole(error.__cause__ or error.__context__)}"
