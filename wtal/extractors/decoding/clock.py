"""Convert jumping timestamps to one clock that never runs backwards."""

from collections.abc import Iterator
from fractions import Fraction

from wtal.errors import VideoError
from wtal.extractors.decoding.reader import Picture, TimedFrame, VideoInfo

LONGEST_STILL = 3600
"""Maximum seconds of one picture on screen: a file that claims more has an error in its clock."""

LONGEST_STILLS = 24 * 3600
"""Maximum total seconds of pictures that stay for more than ten seconds."""

_LEAP = Fraction(1)
_GAP_AT_BORDER = Fraction(5)
_FAR = Fraction(10)
_FEW = 8
_ROUNDING = Fraction(1, 1000)
_HELD_FRAMES = 250
_HELD_BYTES = 128 << 20


class FrameClock:
    """Iterator, for one pass, over (seconds since the first frame, picture) of each frame; seconds never decrease.

    A timestamp that jumps, by more than a second (or four frames, if those are longer), is held until the following
    frames reveal the cause. Up to 250 frames are held, or 128 MiB of them.

    - If they return to the old clock, the held frames are stray: they are spread over the time between.
    - If they continue from a later time, the picture stood still. But a jump of more than ten seconds, to more than ten
      seconds beyond the declared end, is one of the clock: the frame follows its predecessor.
    - If they continue from an earlier time, the clock was restarted: the frame follows its predecessor.

    Before the first and after the last frames there is nothing to return to. Up to seven of them are stray if they lie
    on the wrong side of all others, or beyond the declared end, or more than five seconds off while all others come at
    a constant rate and no frame is declared to last as long as the gap.

    A timestamp that runs backwards by less than a jump is raised to that of its predecessor. A frame of undeclared
    duration lasts as long as the mean of its predecessors: without a rate, this is all that is known of the last one.

    Iterating raises `VideoError` if one picture stays longer than `LONGEST_STILL`, or several together longer than
    `LONGEST_STILLS`.
    """

    def __init__(self, frames: Iterator[TimedFrame], info: VideoInfo) -> None:
        self._frames = frames
        self._declared_end = info.declared_end
        self._nominal = info.frame_duration
        self._rate_guessed = info.rate_guessed
        self._leap = max(_LEAP, 4 * info.frame_duration)
        self._offset = Fraction(0)  # from the file's clock to seconds since the first frame
        self._last = Fraction(0)  # on the file's clock
        self._shortest, self._longest = self._leap, Fraction(0)  # steps so far
        self._placed = 0
        self._held: list[TimedFrame] = []
        self._held_bytes = 0
        self._stills = Fraction(0)
        self.start = Fraction(0)
        """Second 0 on the file's own clock."""
        self.last_duration = Fraction(0)
        self.furthest = Fraction(0)
        """End of the stray frame that lies furthest ahead, on the file's own clock."""
        self.backwards = self.equal = self.strays = self.jumps = self.stills = 0
        self.longest_still = Fraction(0)

    @property
    def end(self) -> Fraction:
        """Seconds from the first frame to the end of the latest one."""
        return self._offset + self._last + self.last_duration

    def __iter__(self) -> Iterator[tuple[Fraction, Picture]]:
        for frame in self._frames:
            step = frame.time - self._last
            if self._placed and not self._held and step.numerator > 0 and step <= self._leap:
                yield self._place(frame, frame.time, step)
            else:
                yield from self._take(frame)
        while self._held:
            yield from self._settle(ended=True)
        self._require_short(self.last_duration)

    def _take(self, frame: TimedFrame) -> Iterator[tuple[Fraction, Picture]]:
        step = frame.time - self._last
        if not self._placed:
            self.start, self._offset = frame.time, -frame.time
            self._placed, self._last, self.last_duration = 1, frame.time, self._lasting(frame, Fraction(0))
            yield Fraction(0), frame.picture
        elif self._held and self._returns(frame):
            yield from self._place_strays(frame.time)
            yield from self._take(frame)
        elif self._held or step > self._leap or step < -self._leap:
            self._held.append(frame)
            self._held_bytes += frame.picture.nbytes
            if len(self._held) >= _HELD_FRAMES or self._held_bytes >= _HELD_BYTES:
                yield from self._settle(ended=False)
        elif step <= 0:
            self.backwards += step < 0
            self.equal += step == 0
            yield self._place(frame, self._last, Fraction(0))
        else:
            yield self._place(frame, frame.time, step)

    def _place(self, frame: TimedFrame, time: Fraction, step: Fraction) -> tuple[Fraction, Picture]:
        """Yield a frame at `time` on the file's clock, `step` seconds after the previous one."""
        if step > _LEAP:
            self._require_short(step)
        if step > self._longest:
            self._longest = step
        elif step < self._shortest:
            self._shortest = step
        self._last = time
        self._placed += 1
        self.last_duration = self._lasting(frame, self._offset + time)
        return self._offset + time, frame.picture

    def _lasting(self, frame: TimedFrame, second: Fraction) -> Fraction:
        """Return the duration of the latest frame, which is shown at a `second`."""
        if frame.duration or not self._rate_guessed:
            return frame.duration
        return second / (self._placed - 1) if second > 0 else self._nominal

    def _release(self) -> list[TimedFrame]:
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    def _returns(self, frame: TimedFrame) -> bool:
        """Return whether a frame jumps away from the held ones, back to the clock as it would be without them."""
        first, last = self._held[0].time, self._held[-1].time
        back = last - frame.time if first > self._last else frame.time - last
        at_most = 2 * (len(self._held) + 1) * self._longest
        return back > self._leap / 2 and -self._leap <= frame.time - self._last <= at_most + self._leap

    def _place_strays(self, until: Fraction) -> Iterator[tuple[Fraction, Picture]]:
        """Yield the held frames between the previous one and `until`, at which the clock continues."""
        held, before = self._release(), self._last
        self._note_strays(held)
        each = max(until - before, Fraction(0)) / (len(held) + 1)
        each = each if each <= self._leap else self._longest
        for number, frame in enumerate(held, 1):
            yield self._place(frame, before + number * each, each)

    def _note_strays(self, frames: list[TimedFrame]) -> None:
        self.strays += len(frames)
        self.furthest = max(self.furthest, *(frame.time + frame.duration for frame in frames))

    def _settle(self, ended: bool) -> Iterator[tuple[Fraction, Picture]]:
        """Decide on the first of the held frames, and reconsider the others."""
        held = self._release()
        first, *others = held
        few_before, few_behind = self._placed < _FEW, ended and len(held) < _FEW
        back = first.time < self._last
        steps = [later.time - frame.time for frame, later in zip(held, others, strict=False)]
        if few_behind and (not few_before if back else self._undeclared(first) or self._strays_behind(first)):
            self._note_strays(held)
            self._close(first, self._longest or self.last_duration)
        elif few_before and not few_behind and (back or self._strays_before(first, steps)):
            self.strays += self._placed
            self.furthest = self._declared_end or self.furthest
            self.start = -self._close(first, steps[0] if steps else self.last_duration)
        elif back or self._beyond(first):
            self.jumps += 1
            self._close(first, self.last_duration)
        yield self._place(first, first.time, first.time - self._last)
        for frame in others:
            yield from self._take(frame)

    def _close(self, first: TimedFrame, step: Fraction) -> Fraction:
        """Place a frame `step` seconds after the previous one; return the seconds between the two clocks."""
        moved = self._last + step - first.time
        self._offset += moved
        self._last -= moved
        return self._offset

    def _undeclared(self, frame: TimedFrame) -> bool:
        """Return whether a frame lies beyond the declared end; some files declare the start of their last frame."""
        return self._declared_end is not None and self._on_clock(frame) >= self._declared_end + _ROUNDING

    def _on_clock(self, frame: TimedFrame) -> Fraction:
        return self.start + self._offset + frame.time

    def _beyond(self, frame: TimedFrame) -> bool:
        far = frame.time > self._last + _FAR
        return far and self._declared_end is not None and self._on_clock(frame) > self._declared_end + _FAR

    def _strays_behind(self, first: TimedFrame) -> bool:
        """Return whether a gap near the end cannot belong to a video of constant rate."""
        return self._placed >= _FEW and self._longest <= 2 * self._shortest and self._strange(first)

    def _strays_before(self, first: TimedFrame, steps: list[Fraction]) -> bool:
        """Return the same for a gap near the start; `steps` are those after it."""
        return len(steps) >= _FEW and 0 < max(steps) <= 2 * min(steps) and self._strange(first)

    def _strange(self, frame: TimedFrame) -> bool:
        """Return whether the gap before a frame is long, and not covered by the previous frame."""
        gap = frame.time - self._last
        return gap > _GAP_AT_BORDER and gap - self.last_duration > self._leap

    def _require_short(self, still: Fraction) -> None:
        """Count pictures that stay for long.

        Raises:
            VideoError: when one stays for too long, or all do in total.
        """
        if still > LONGEST_STILL:
            second = float(self._offset + self._last)
            raise VideoError(
                f"the picture at second {second:.2f} would stay for {float(still):.0f} s, but "
                f"{LONGEST_STILL} s is the maximum: its clock is wrong; repair the timestamps, or cut the file there"
            )
        if still > _FAR:
            self.stills += 1
            self.longest_still = max(self.longest_still, still)
            self._stills += still
        if self._stills > LONGEST_STILLS:
            raise VideoError(
                f"pictures that stay for more than {_FAR} s take more than {LONGEST_STILLS // 3600} h in total: "
                "cut the file into shorter ones"
            )
