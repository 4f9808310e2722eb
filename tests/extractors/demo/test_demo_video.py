import json
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from wtal.errors import UsageError
from wtal.extractors.demo import scene as demo_scene
from wtal.extractors.demo import video as demo_video
from wtal.extractors.demo.video import ACTIONS, VIDEOS, render_collection

COUNTS = {"training": 7, "validation": 2, "testing": 1}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return render_collection(tmp_path_factory.mktemp("demo"), COUNTS)


@pytest.fixture(scope="module")
def database(collection):
    return json.loads(collection.read_text())["database"]


@pytest.fixture(scope="module")
def plans():
    return [plan for subset, count in VIDEOS.items() for plan in demo_video._plan_subset(subset, count, 0)]


def decode(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert frames[0].pts == 0
    times = [frame.pts * frame.time_base for frame in frames]
    end = times[-1] + frames[-1].duration * frames[-1].time_base
    return frames, [*times, end]


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()}


def test_collection_holds_the_videos_it_annotates_and_nothing_else(collection, database):
    assert Counter(entry["subset"] for entry in database.values()) == COUNTS
    assert sorted(p.name for p in (collection.parent / "videos").iterdir()) == sorted(f"{id_}.mp4" for id_ in database)
    assert sorted(p.name for p in collection.parent.iterdir()) == ["annotations.json", "videos"]
    names = {leaf["nodeName"] for leaf in json.loads(collection.read_text())["taxonomy"]}
    assert names == {"Root", *ACTIONS}


def test_every_border_and_every_duration_is_the_time_of_a_frame(collection, database):
    for name, entry in database.items():
        frames, times = decode(collection.parent / "videos" / f"{name}.mp4")
        assert entry["duration"] == float(times[-1])
        assert entry["resolution"] == f"{frames[0].width}x{frames[0].height}"
        shown = {float(time) for time in times}
        assert all(border in shown for note in entry["annotations"] for border in note["segment"])


def test_rates_are_constant_or_varying_as_planned(collection):
    steps = {}
    for name in ("training_00", "training_03", "training_06"):
        _, times = decode(collection.parent / "videos" / f"{name}.mp4")
        steps[name] = {late - early for early, late in pairwise(times)}
    assert steps["training_00"] == {Fraction(1, 25)}
    assert steps["training_03"] == {Fraction(1, 30)}
    assert len(steps["training_06"]) > 2


def test_segments_lie_apart_inside_their_video(plans):
    for plan in plans:
        entry = demo_video._entry(plan)
        borders = [0.0, *(s for note in entry["annotations"] for s in note["segment"]), entry["duration"]]
        lengths = np.diff(borders)
        assert 11.9 <= entry["duration"] <= 22.1
        if plan.subset == "testing":
            assert entry["annotations"] == []
            continue
        assert 2 <= len(entry["annotations"]) <= 4
        assert (lengths[0::2] > 1.5).all()
        assert (lengths[0::2] < 4).all()
        assert (lengths[1::2] > 2).all()
        assert (lengths[1::2] < 5).all()
        assert {note["label"] for note in entry["annotations"]} == set(plan.labels)


def test_classes_are_balanced_and_rates_differ(plans):
    for subset, least in (("training", 10), ("validation", 4)):
        chosen = [plan for plan in plans if plan.subset == subset]
        count = Counter(label for plan in chosen for label in plan.labels)
        assert set(count) == set(ACTIONS)
        assert min(count.values()) >= least
        assert max(count.values()) - min(count.values()) <= 2
        assert {len(set(plan.labels)) for plan in chosen} == {1, 2}
        assert {plan.clock.unit for plan in chosen} == {Fraction(1, n) for n in (24, 25, 30, 600)}


@pytest.mark.slow
def test_the_same_call_writes_the_same_bytes_on_any_number_of_processes(tmp_path):
    render_collection(tmp_path / "one", {"training": 2})
    render_collection(tmp_path / "two", {"training": 2}, jobs=2)
    render_collection(tmp_path / "other", {"training": 2}, seed=1)
    one, two, other = (content(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_finished_videos_stay_and_all_others_of_ours_go(tmp_path):
    calls = []
    render_collection(tmp_path, {"training": 2}, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 2), (1, 2), (2, 2)]
    first, second = (tmp_path / "videos" / f"training_0{i}.mp4" for i in (0, 1))
    before, whole = first.stat().st_mtime_ns, first.read_bytes()
    stranger = tmp_path / "videos" / "holiday.mp4"
    stranger.write_bytes(b"not ours")
    render_collection(tmp_path, {"training": 1})
    assert first.stat().st_mtime_ns == before
    assert stranger.read_bytes() == b"not ours"
    assert not second.exists()
    first.write_bytes(whole[: len(whole) // 2])
    render_collection(tmp_path, {"training": 1})
    assert first.read_bytes() == whole


def test_a_broken_write_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_video, "_frames", lambda plan: iter([np.zeros((3, 5, 3), np.uint8)]))
    with pytest.raises((cv2.error, ValueError)):
        render_collection(tmp_path, {"training": 1})
    assert list((tmp_path / "videos").iterdir()) == []


@pytest.mark.parametrize(("videos", "seed"), [({"train": 1}, 0), ({"training": -1}, 0), ({"training": 1}, -1)])
def test_what_cannot_be_rendered_is_refused(tmp_path, videos, seed):
    with pytest.raises(UsageError, match="the demo takes"):
        render_collection(tmp_path, videos, seed)
    assert list(tmp_path.iterdir()) == []


def test_actions_move_as_they_are_called():
    t = np.arange(0, 4, 1 / 25)
    for seed in range(20):
        spread = {name: np.ptp(move(np.random.default_rng(seed), t), axis=0) for name, move in ACTIONS.items()}
        assert min(spread["circling"][:2]) > 30
        assert spread["bouncing"][1] > 1.5 * spread["bouncing"][0]
        assert spread["swinging"][0] > 1.5 * spread["swinging"][1]
        assert spread["spinning"][2] > 2 * np.pi
        assert 0.5 < spread["pulsing"][3] < 1.2
        assert all((values[4] == 0) for values in spread.values())
        assert (spread["spinning"][:2] == 0).all()
        assert (spread["pulsing"][:3] == 0).all()


def test_the_actor_never_jumps_in_sight(plans):
    for plan in plans[:20]:
        track = demo_scene._actor_track(np.random.default_rng([*plan.entropy, 1]), plan.parts, plan.clock.times())
        step = np.abs(np.diff(track, axis=0))
        seen = track[1:, 4] > 0
        assert step[seen, :2].max() < 16
        assert step[seen, 2].max() < 0.6
        assert step[:, 4].max() < 0.5


def test_patterns_have_no_seam_and_fill_the_range():
    for seed in range(6):
        pattern = demo_scene._pattern(np.random.default_rng(seed), 20)
        inside = np.abs(np.diff(pattern, axis=1)).max()
        assert np.abs(pattern[:, 0] - pattern[:, -1]).max() <= 1.5 * inside
        assert np.ptp(pattern) > 0.7


def test_the_picture_shows_the_actor_over_the_ground():
    plan = demo_video._plan_video("any", "training", ("circling",), (0, 0, 1))
    scene = demo_scene.make_scene(np.random.default_rng(3), plan.parts, plan.clock.times())
    bare = demo_scene.Scene(scene.ground, scene.pan, scene.shake, scene.gain, [])
    action = plan.parts[1].first
    for k, (full, ground) in enumerate(zip(demo_scene.draw(scene), demo_scene.draw(bare), strict=True)):
        if k == action:
            assert full.shape == (demo_scene.HEIGHT, demo_scene.WIDTH, 3)
            assert 300 < (full != ground).any(axis=2).sum() < full.shape[0] * full.shape[1] / 2
            assert ground.std() > 5
            break


def test_the_encoder_writes_the_same_bytes_every_time(plans):
    codec = demo_video._encoder()
    assert len({demo_video._encode(plans[5], codec, "mark") for _ in range(4)}) == 1
