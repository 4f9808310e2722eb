"""Frames at any rate, constant or variable, to frames at one target rate, by their timestamps."""

from collections.abc import Iterator
from fractions import Fraction

from wtal.data.grid import frame_count
from wtal.errors import VideoError
from wtal.extractors.decoding.reader import Image, TimedFrame, VideoBroken, VideoInfo, VideoSummary

_JUMP_BACK = Fraction(1)
_JUMP_FORWARD = Fraction(10)
_FILE_SLACK = Fraction(1)


class Sampler:
    """Iterate once for the N images at `fps` frames per second; then ask for the `summary`.

    Second 0 is the first shown frame, N = max(1, round(fps * (last timestamp + its duration - first timestamp))), and
    image j is the last one shown at or before second j / fps. Two images are held at most. An image is given out as
    soon as it is certain that N exceeds its number: that is when a frame at or after second (j + 1) / fps has come.

    Timestamps that run backwards are repaired: by less than a second, the frame replaces the one before it at once;
    by more, or forward by more than ten seconds and beyond the declared end, the clock has jumped, and the frame
    follows the one before it. An image that stays on screen is given out again as the same object.

    Iterating raises `VideoError` when there is no frame at all; a file that breaks after some frames ends there, and
    the summary says so.
    """

    def __init__(self, frames: Iterator[TimedFrame], info: VideoInfo, fps: Fraction) -> None:
        self._frames = frames
        self._info = info
        self._fps = fps
        self._notes: list[str] = []
        self._size: tuple[int, int] | None = None
        self._first = self._end = Fraction(0)
        self._last_duration = Fraction(0)
        self._decoded = self._guessed = self._backwards = self._jumps = self._resized = 0
        self._sampled: int | None = None

    def __iter__(self) -> Iterator[Image]:
        shown: Image | None = None
        held: Image | None = None
        count = 0
        for time, image in self._timeline():
            position = self._fps * (time - self._first)
            while shown is not None and count < position:
                if held is not None:
                    yield held
                held = shown
                count += 1
            shown = image
        if shown is None:
            raise VideoError("no frame could be decoded")
        self._sampled = frame_count(self._fps, self._end - self._first)
        if held is not None and count <= self._sampled:
            yield held
        for _ in range(count, self._sampled):
            yield shown

    def summary(self, reader: str, why: str) -> VideoSummary:
        """Report on the decoding, after the last image; `reader` decoded, for the reason `why`.

        Raises:
            ValueError: when not all images were taken yet.
        """
        if self._sampled is None or self._size is None:
            raise ValueError("the summary is known only after the last image")
        shortfall = self._shortfall()
        return VideoSummary(
            frames=self._sampled,
            decoded=self._decoded,
            start=self._first,
            width=self._size[0],
            height=self._size[1],
            shortfall=shortfall,
            reader=reader,
            why=why,
            notes=(*self._notes, *self._oddities(shortfall)),
        )

    def _timeline(self) -> Iterator[tuple[Fraction, Image]]:
        """Yield times that never decrease, and images."""
        time: Fraction | None = None
        offset = Fraction(0)
        for frame in self._until_broken():
            shown_at = frame.time + offset
            if time is None:
                time = self._first = shown_at
            elif self._jumped(time, shown_at):
                self._jumps += 1
                offset += self._end - shown_at
                time = self._end
            else:
                self._backwards += shown_at < time
                time = max(time, shown_at)
            self._end = time + frame.duration
            self._last_duration = frame.duration
            self._count(frame)
            yield time, frame.image

    def _until_broken(self) -> Iterator[TimedFrame]:
        try:
            yield from self._frames
        except VideoBroken as error:
            self._notes.append(str(error))

    def _jumped(self, time: Fraction, shown_at: Fraction) -> bool:
        declared = self._info.declared_end
        beyond = declared is not None and shown_at > declared + _JUMP_FORWARD
        return shown_at < time - _JUMP_BACK or (beyond and shown_at > time + _JUMP_FORWARD)

    def _count(self, frame: TimedFrame) -> None:
        height, width = frame.image.shape[:2]
        self._size = self._size or (width, height)
        self._resized += (width, height) != self._size
        self._guessed += frame.guessed
        self._decoded += 1

    def _shortfall(self) -> Fraction:
        declared = self._info.declared_end
        if declared is None or self._jumps:
            return Fraction(0)
        slack = max(self._last_duration, _FILE_SLACK) if self._info.duration_of_file else self._last_duration
        missing = declared - self._end
        return missing if missing >= slack and missing > 0 else Fraction(0)

    def _oddities(self, shortfall: Fraction) -> Iterator[str]:
        if shortfall:
            yield f"ends {float(shortfall):.3f} s before its declared end"
        if self._resized:
            yield f"the picture size changes in mid-stream: {self._resized} frames were scaled to the first one's"
        if self._backwards:
            yield f"{self._backwards} timestamps run backwards: the frame replaced the one before it"
        if self._jumps:
            yield f"the clock jumps {self._jumps} times: the frames were put one after the other"
        if self._guessed:
            yield f"{self._guessed} frames carry no timestamp: they were put behind the frame before them"
