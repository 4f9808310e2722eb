"""Resample frames of any rate, constant or variable, to one target rate, by their timestamps."""

from collections.abc import Iterator
from fractions import Fraction

from wtal.data.grid import frame_count
from wtal.errors import VideoError
from wtal.extractors.decoding.clock import FrameClock
from wtal.extractors.decoding.reader import (
    Image,
    Picture,
    TimedFrame,
    VideoBroken,
    VideoInfo,
    VideoSummary,
    image_of,
)

_FILE_SLACK = Fraction(1)
_LATE = Fraction(1, 10)


class Sampler:
    """Iterator, for one pass, over the N images at `fps` frames per second, or `pictures`; then call `summary`.

    Second 0 is the first shown frame, N = max(1, round(fps * (last timestamp + its duration - first timestamp))), and
    image j is the last one shown at or before second j / fps. At most two images are held. An image is yielded as soon
    as N certainly exceeds its number: when a frame at or after second (j + 1) / fps has arrived.

    Timestamps that jump or run backwards are repaired by `FrameClock`. An image that stays on screen is yielded again
    as the same object.

    Iterating raises `VideoError` if there is no frame at all; a file that breaks after some frames ends there, as noted
    in the summary.
    """

    def __init__(self, frames: Iterator[TimedFrame], info: VideoInfo, fps: Fraction) -> None:
        self._frames = frames
        self._info = info
        self._fps = fps
        self._clock = FrameClock(self._until_broken(), info)
        self._notes: list[str] = []
        self._size: tuple[int, int] | None = None
        self._decoded = self._guessed = self._resized = 0
        self._sampled: int | None = None

    def __iter__(self) -> Iterator[Image]:
        return map(image_of, self.pictures())

    def pictures(self) -> Iterator[Picture]:
        """Iterate over the same images, their colours not converted yet if the reader can postpone that."""
        current: Picture | None = None
        held: Picture | None = None
        count = 0
        for time, picture in self._clock:
            position = self._fps * time
            while current is not None and count < position:
                if held is not None:
                    yield held
                held = current
                count += 1
            current = picture
        if current is None:
            raise VideoError("no frame could be decoded")
        self._sampled = frame_count(self._fps, self._clock.end)
        if held is not None and count <= self._sampled:
            yield held
        for _ in range(count, self._sampled):
            yield current

    def summary(self, reader: str) -> VideoSummary:
        """Report on the decoding by `reader`, after the last image.

        Raises:
            ValueError: when some images have not been taken yet.
        """
        if self._sampled is None or self._size is None:
            raise ValueError("the summary is available only after the last image")
        shortfall, begins = self._shortfall(), self._begins()
        return VideoSummary(
            frames=self._sampled,
            decoded=self._decoded,
            start=self._clock.start,
            width=self._size[0],
            height=self._size[1],
            shortfall=shortfall,
            reader=reader,
            notes=(*self._notes, *self._oddities(shortfall, begins)),
            begins=begins,
        )

    def _until_broken(self) -> Iterator[TimedFrame]:
        try:
            for frame in self._frames:
                self._count(frame)
                yield frame
        except VideoBroken as error:
            self._notes.append(str(error))

    def _count(self, frame: TimedFrame) -> None:
        height, width = frame.picture.shape[:2]
        self._size = self._size or (width, height)
        self._resized += (width, height) != self._size
        self._guessed += frame.guessed
        self._decoded += 1

    def _shortfall(self) -> Fraction:
        declared, clock = self._info.declared_end, self._clock
        if declared is None or clock.jumps:
            return Fraction(0)
        slack = max(clock.last_duration, _FILE_SLACK) if self._info.duration_of_file else clock.last_duration
        missing = declared - max(clock.start + clock.end, clock.furthest)
        return missing if missing >= slack and missing > 0 else Fraction(0)

    def _begins(self) -> Fraction:
        """Return the seconds from the beginning of the file to that of the picture."""
        start, file_start = self._clock.start, self._info.file_start
        return Fraction(0) if file_start is None or start - file_start < _LATE else start - file_start

    def _oddities(self, shortfall: Fraction, begins: Fraction) -> Iterator[str]:
        if begins:
            yield f"the picture begins {float(begins):.3f} s after the start of the file, second 0 of players"
        if self._info.reassembled:
            yield "an edit list joins parts or changes their speed: players may show them differently"
        if shortfall:
            yield f"ends {float(shortfall):.3f} s before its declared end"
        if self._resized:
            yield f"the picture size changes mid-stream: {self._resized} frames were scaled to the first size"
        if self._clock.backwards:
            yield f"{self._clock.backwards} timestamps run backwards: the frame replaced the previous one"
        if self._clock.equal:
            yield f"{self._clock.equal} timestamps repeat the one before: the frame replaced the previous one"
        if self._clock.strays:
            yield f"{self._clock.strays} timestamps are far from their neighbours: the frames were moved between them"
        if self._clock.jumps:
            yield f"the clock jumps {self._clock.jumps} times: the frames were joined without gaps"
        if self._clock.stills:
            longest = float(self._clock.longest_still)
            yield f"pictures stay for more than 10 s {self._clock.stills} times, the longest for {longest:.1f} s"
        if self._guessed:
            yield f"{self._guessed} frames carry no timestamp: they were placed after the previous frame"
