"""Times of decoded frames on the file's own clock, as extraction counts them."""

from fractions import Fraction

from av.video.frame import VideoFrame

from wtal.extractors.decoding.probe import exact
from wtal.extractors.decoding.reader import VideoInfo


class FrameTimes:
    """Seconds of frames in shown order, by presentation times, or by decoding times if those are better.

    They are better in AVI, which has no others, and where presentation times repeatedly run backwards, as they do if
    copied from decoding times. A single presentation time far from its neighbours does not count.
    """

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._far = max(Fraction(1), 16 * info.frame_duration)
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}
        self._frames = 0
        self._next = self._before = info.start

    def stamp_of(self, frame: VideoFrame) -> tuple[Fraction, Fraction, bool]:
        """Return time and duration in seconds (0 if undeclared), and whether the time had to be guessed."""
        self._frames += 1
        unit = exact(frame.time_base) or self._info.time_base
        self._judge("pts", frame.pts, unit)
        self._judge("dts", frame.dts, unit)
        trusted = frame.dts if frame.pts is None or self._decoding_times() else frame.pts
        time = self._next if trusted is None else trusted * unit
        duration = frame.duration * unit or self._info.declared_frame_duration
        nominal = duration or self._info.frame_duration
        step = time - self._before if self._info.container == "avi" else nominal
        self._next, self._before = time + max(step, nominal), time
        return time, duration, trusted is None and frame.pts is None

    def _decoding_times(self) -> bool:
        excess = self._faults["pts"] - self._faults["dts"]
        return self._info.container == "avi" or excess > 1 + self._frames // 50

    def _judge(self, kind: str, stamp: int | None, unit: Fraction) -> None:
        if stamp is None:
            return
        last = self._last.get(kind, stamp - 1)
        self._faults[kind] += int(stamp <= last and (last - stamp) * unit < self._far)
        self._last[kind] = stamp
