"""Scenes of the demo's videos: motions of an actor, distractors, seamless textures, and their rendering.

A script determines when the actor does what; everything else (places, speeds, shapes, colours) is random.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Singles = NDArray[np.float32]
Image = NDArray[np.uint8]

WIDTH, HEIGHT = 160, 120
_TILE = 256
_X, _Y, _ANGLE, _SCALE, _ALPHA = range(5)


@dataclass(frozen=True)
class ScenePart:
    """Frames `first` to `end` (exclusive), in which the actor does `label`, or nothing if that is None."""

    label: str | None
    first: int
    end: int


def _track(frames: int) -> Floats:
    """Return (frames, 5): x, y in pixels, angle in radians, scale, alpha; at rest and in sight."""
    track = np.zeros((frames, 5))
    track[:, _SCALE] = track[:, _ALPHA] = 1
    return track


def _along(rng: np.random.Generator, track: Floats, x: Floats, y: Floats) -> Floats:
    """Add offsets x, y (F,) along axes tilted by up to ten degrees."""
    tilt = np.deg2rad(rng.uniform(-10, 10))
    track[:, _X] = np.cos(tilt) * x - np.sin(tilt) * y
    track[:, _Y] = np.sin(tilt) * x + np.cos(tilt) * y
    return track


def _circling(rng: np.random.Generator, t: Floats) -> Floats:
    phase = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * 2 * np.pi * t / rng.uniform(0.9, 1.4)
    radius = rng.uniform(17, 25)
    return _along(rng, _track(len(t)), radius * np.cos(phase), radius * np.sin(phase))


def _bouncing(rng: np.random.Generator, t: Floats) -> Floats:
    u = t / rng.uniform(0.55, 0.9) % 1
    return _along(rng, _track(len(t)), 0 * t, rng.uniform(34, 48) * (0.5 - 4 * u * (1 - u)))


def _swinging(rng: np.random.Generator, t: Floats) -> Floats:
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * t / rng.uniform(0.9, 1.4)
    return _along(rng, _track(len(t)), rng.uniform(22, 34) * np.sin(phase), 0 * t)


def _spinning(rng: np.random.Generator, t: Floats) -> Floats:
    track = _track(len(t))
    track[:, _ANGLE] = rng.choice([-1, 1]) * 2 * np.pi * t / rng.uniform(0.9, 1.5)
    return track


def _pulsing(rng: np.random.Generator, t: Floats) -> Floats:
    track = _track(len(t))
    track[:, _SCALE] = np.exp(rng.uniform(0.32, 0.45) * np.sin(2 * np.pi * t / rng.uniform(0.7, 1.1)))
    return track


ACTIONS: Mapping[str, Callable[[np.random.Generator, Floats], Floats]] = MappingProxyType(
    {
        "bouncing": _bouncing,
        "circling": _circling,
        "pulsing": _pulsing,
        "spinning": _spinning,
        "swinging": _swinging,
    }
)
"""Class name -> motion: generator, (F,) seconds since the action began -> (F, 5) offsets from the actor's place."""


def _actor_track(rng: np.random.Generator, parts: Sequence[ScenePart], times: Floats) -> Floats:
    """Return (F, 5): the actions at random places, with gaps filled so that the actor never jumps in sight."""
    track = _track(len(times))
    angle = rng.uniform(-0.4, 0.4)
    for part in parts:
        if part.label is not None:
            t = times[part.first : part.end] - times[part.first]
            motion = ACTIONS[part.label](rng, t)
            motion[:, :_ANGLE] += _place(rng) + t[:, None] * rng.uniform(-3, 3, 2)
            motion[:, _ANGLE] += angle
            angle = motion[-1, _ANGLE]
            track[part.first : part.end] = motion
    gaps = [part for part in parts if part.label is None]
    for gap in gaps:
        before = track[gap.first - 1] if gap.first else None
        after = track[gap.end] if gap.end < len(track) else None
        track[gap.first : gap.end] = _gap(rng, times[gap.first : gap.end], before, after)
    return track


def _place(rng: np.random.Generator) -> Floats:
    return np.array([rng.uniform(48, WIDTH - 48), rng.uniform(46, HEIGHT - 46)])


def _gap(rng: np.random.Generator, t: Floats, before: Floats | None, after: Floats | None) -> Floats:
    """Return (F, 5): from the pose before to the pose after, in one straight line, or a short one, or out of sight.

    At the video's ends the missing pose is the other one, moved.
    """
    pose = before if before is not None else after
    if pose is None:
        raise ValueError("a gap needs an action on one side")
    elsewhere = pose.copy()
    elsewhere[:_ANGLE], elsewhere[_SCALE] = _place(rng), 1
    start, end = (elsewhere if before is None else before), (elsewhere if after is None else after)
    mode, u = rng.choice(["absent", "still", "drift"]), (t - t[0]) / (t[-1] - t[0])
    middle, length = (0.5, 1.0) if mode == "drift" else (rng.uniform(0.4, 0.6), 0.3)
    way = np.clip((u - middle) / length + 0.5, 0, 1)
    track: Floats = start + way[:, None] * (end - start)
    track[:, _ANGLE] = pose[_ANGLE]
    if mode == "absent":
        track[:, _ALPHA] = np.clip((np.abs(u - middle) - 0.2) / 0.1, 0, 1)
    return track


def _passing(rng: np.random.Generator, times: Floats) -> Floats:
    """Return (F, 5): something crosses the picture in a straight line, at any time."""
    track, at = _track(len(times)), rng.uniform(0, times[-1])
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(25, 90)
    reach = (times - at) * speed
    x, y = rng.uniform(20, WIDTH - 20), rng.uniform(20, HEIGHT - 20)
    track[:, _X], track[:, _Y] = x + reach * np.cos(heading), y + reach * np.sin(heading)
    track[:, _ANGLE] = heading
    return track


def _appearing(rng: np.random.Generator, times: Floats) -> Floats:
    """Return (F, 5): something appears, stays for a while and vanishes, at any time."""
    track, at, stay = _track(len(times)), rng.uniform(0, times[-1]), rng.uniform(0.5, 1.5)
    track[:, _X], track[:, _Y] = rng.uniform(10, WIDTH - 10), rng.uniform(10, HEIGHT - 10)
    track[:, _ALPHA] = np.clip((stay - np.abs(times - at)) / rng.uniform(0.1, 0.4), 0, 1)
    return track


def _shakes(rng: np.random.Generator, times: Floats) -> Floats:
    """Return (F, 2) pixels: up to three short, decaying camera shakes."""
    offset = np.zeros((len(times), 2))
    for _ in range(rng.integers(0, 4)):
        since = np.clip(times - rng.uniform(0, times[-1]), 0, None)
        swing = np.sin(2 * np.pi * rng.uniform(3, 5) * since) * np.exp(-since / rng.uniform(0.15, 0.35))
        offset += swing[:, None] * rng.uniform(-5, 5, 2)
    return offset


def _brightness(rng: np.random.Generator, times: Floats) -> Floats:
    """Return (F,) gains: up to two spells of flicker."""
    gain = np.ones(len(times))
    for _ in range(rng.integers(0, 3)):
        spell = np.exp(-(((times - rng.uniform(0, times[-1])) / rng.uniform(0.4, 1.2)) ** 2))
        gain += rng.uniform(0.08, 0.2) * spell * np.sin(2 * np.pi * rng.uniform(1.5, 6) * times)
    return gain


def _pattern(rng: np.random.Generator, coarse: float) -> Singles:
    """Return (256, 256) in [0, 1], seamless at the borders: clouds, waves or patches of about `coarse` pixels."""
    frequency = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None])
    noise = np.fft.rfft2(rng.standard_normal((_TILE, _TILE)))

    def smooth(size: float) -> Floats:
        field = np.fft.irfft2(noise * np.exp(-2 * (np.pi * size / 2.5 * frequency) ** 2), s=(_TILE, _TILE))
        return np.asarray((field - field.mean()) / field.std())

    clouds = smooth(coarse) + 0.45 * smooth(coarse / 4)
    kind = rng.choice(["clouds", "waves", "patches"])
    if kind == "waves":
        turns = np.round(_TILE / coarse * rng.uniform(0.3, 0.8, 2)) * rng.choice([-1, 1], 2)
        grid = np.arange(_TILE) * 2 * np.pi / _TILE
        clouds = 1.2 * np.sin(turns[0] * grid[:, None] + turns[1] * grid + 0.8 * smooth(2 * coarse)) + 0.4 * clouds
    elif kind == "patches":
        clouds = np.round(1.2 * clouds) / 1.2 + 0.3 * smooth(coarse / 4)
        clouds = cv2.GaussianBlur(clouds, (0, 0), 0.8, borderType=cv2.BORDER_REFLECT)
    return np.clip(0.5 + clouds / 4.5, 0, 1).astype(np.float32)


def _paint(pattern: Singles, hsv: list[tuple[float, float, float]]) -> Singles:
    """Map (H, W) in [0, 1] -> (H, W, 3) RGB in [0, 255], through the colours `hsv` (hue in turns)."""
    stops = np.array([[hue % 1 * 360, saturation, value] for hue, saturation, value in hsv], np.float32)
    colours = cv2.cvtColor(stops[None], cv2.COLOR_HSV2RGB)[0] * 255
    at = np.linspace(0, 1, len(hsv))
    return np.stack([np.interp(pattern, at, colours[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _background(rng: np.random.Generator, hue: float) -> Singles:
    """Return (256 + H, 256 + W, 3): a muted texture, repeated so that a window fits anywhere."""
    dark, light = rng.uniform(0.2, 0.35), rng.uniform(0.6, 0.8)
    colours = [(hue - 0.06, 0.55, dark), (hue, 0.45, (dark + light) / 2), (hue + 0.08, 0.3, light)]
    tile = _paint(_pattern(rng, rng.uniform(14, 40)), colours)
    return np.pad(tile, ((0, HEIGHT), (0, WIDTH), (0, 0)), mode="wrap")


def _outline(rng: np.random.Generator) -> Floats:
    """Return (K, 2): a closed outline about the origin, at most 1 from it: a blob, star, gear, polygon or oval."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    corners = int(rng.integers(3, 7))
    shapes = {
        "blob": 0.8 + 0.2 * np.sin(corners * angle),
        "star": 1 - 0.5 * np.abs((angle * corners / np.pi) % 2 - 1),
        "gear": 0.87 + 0.13 * np.tanh(4 * np.sin(2 * corners * angle)),
        "polygon": np.cos(np.pi / corners) / np.cos(angle % (2 * np.pi / corners) - np.pi / corners),
        "oval": 0.62 / np.sqrt((0.62 * np.cos(angle)) ** 2 + np.sin(angle) ** 2),
    }
    radius = shapes[rng.choice(list(shapes))]
    turned = angle + rng.uniform(0, 2 * np.pi)
    return np.stack([radius * np.cos(turned), radius * np.sin(turned)], axis=1)


def _shrink(mask: Singles, side: int) -> Singles:
    return np.asarray(cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _sprite(rng: np.random.Generator, radius: float, hue: float) -> Singles:
    """Return (S, S, 4): RGB in [0, 255] times alpha, and alpha: a textured shape with a rim and a soft shadow."""
    fine, side = 4, 2 * int(np.ceil(1.3 * radius)) + 1
    points = (_outline(rng) * radius + side / 2) * fine
    mask = np.zeros((side * fine, side * fine), np.float32)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], (1.0,), cv2.LINE_8, shift=4)
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * fine + 1, 2 * fine + 1))
    inner = _shrink(np.asarray(cv2.erode(mask, brush), np.float32), side)
    mask = _shrink(mask, side)
    pattern = _pattern(rng, rng.uniform(7, 12))[:side, :side]
    other = hue + rng.choice([-1, 1]) * rng.uniform(0.08, 0.2)
    texture = _paint(pattern, [(hue, 0.9, 0.55), (hue, 0.8, 0.95), (other, 0.35, 1.0)])
    rim = np.array(_paint(np.zeros((1, 1), np.float32), [(hue, 0.15, 1.0)])[0, 0])
    shadow = 0.45 * cv2.GaussianBlur(mask, (0, 0), 0.1 * radius)
    colour = texture * inner[..., None] + rim * (mask - inner)[..., None]
    return np.dstack([colour, mask + (1 - mask) * shadow]).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """One video before drawing: a (256 + H, 256 + W, 3) ground, moving sprites, and arrays over its F frames."""

    ground: Singles
    pan: Floats
    shake: Floats
    gain: Floats
    sprites: list[tuple[Singles, Floats]]


def make_scene(rng: np.random.Generator, parts: Sequence[ScenePart], times: Floats) -> Scene:
    """Create the scene in which the actor does `parts`; `times` (F,) are the seconds at which frames are shown."""
    hue = rng.uniform(0, 1)
    heading, sway = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.8) * np.sin(2 * np.pi * times / rng.uniform(6, 12))
    pan = times[:, None] * rng.uniform(2, 10) * np.array([np.cos(heading), np.sin(heading)]) + 6 * sway[:, None]
    sprites = []
    for path, count in ((_passing, rng.integers(2, 5)), (_appearing, rng.integers(1, 4))):
        for _ in range(count):
            sprites.append((_sprite(rng, rng.uniform(8, 16), rng.uniform(0, 1)), path(rng, times)))
    sprites.insert(
        int(rng.integers(0, len(sprites) + 1)),
        (_sprite(rng, rng.uniform(17, 23), hue + rng.uniform(0.3, 0.7)), _actor_track(rng, parts, times)),
    )
    return Scene(_background(rng, hue), pan, _shakes(rng, times), _brightness(rng, times), sprites)


def draw(scene: Scene) -> Iterator[Image]:
    """Draw the frames in order, (H, W, 3) uint8 RGB."""
    for k in range(len(scene.gain)):
        corner = (scene.pan[k] - scene.shake[k]) % _TILE
        centre = (float(corner[0] + (WIDTH - 1) / 2), float(corner[1] + (HEIGHT - 1) / 2))
        canvas = np.asarray(cv2.getRectSubPix(scene.ground, (WIDTH, HEIGHT), centre), np.float32)
        for sprite, track in scene.sprites:
            if track[k, _ALPHA] > 0:
                _lay(canvas, sprite, track[k], scene.shake[k])
        yield np.clip(canvas * scene.gain[k] + 0.5, 0, 255).astype(np.uint8)


def _lay(canvas: Singles, sprite: Singles, pose: Floats, shake: Floats) -> None:
    """Draw a sprite onto the (H, W, 3) canvas, in place."""
    x, y, scale = pose[_X] + shake[0], pose[_Y] + shake[1], pose[_SCALE]
    half = len(sprite) / 2 * scale + 1
    left, right = max(0, int(x - half)), min(WIDTH, int(x + half) + 2)
    top, bottom = max(0, int(y - half)), min(HEIGHT, int(y + half) + 2)
    if left >= right or top >= bottom:
        return
    a, b, middle = scale * np.cos(pose[_ANGLE]), scale * np.sin(pose[_ANGLE]), (len(sprite) - 1) / 2
    matrix = np.array([[a, -b, x - left - (a - b) * middle], [b, a, y - top - (a + b) * middle]])
    patch = cv2.warpAffine(sprite, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR) * np.float32(
        pose[_ALPHA]
    )
    window = canvas[top:bottom, left:right]
    window *= 1 - patch[..., 3:]
    window += patch[..., :3]
