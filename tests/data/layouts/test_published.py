"""Published features: rows, streams, folders and rates of each layout, and refusals."""

import json
from fractions import Fraction

import numpy as np
import pytest

from tests.support.layouts import assert_equal, call, durations, features, imported, npy, table, write_store
from tests.support.reference import SHARED, needs_shared
from wtal.data.segments import Segment


def test_npy_whole_rows_of_activitynet(tmp_path):
    values = features(0, 7, 2048)
    npy(tmp_path / "in", "v_abc", values)
    store = imported(tmp_path, tmp_path / "in")
    assert store.identity["layout"] == "npy-per-video"
    assert store.identity["backbone"] == "i3d"
    assert np.array_equal(store["v_abc"].streams["rgb"], values[:, :1024])
    assert np.array_equal(store["v_abc"].streams["flow"], values[:, 1024:])
    assert store.grid("v_abc").to_segment(6, 6).end == pytest.approx(7 * 0.64)


def test_npy_streams_in_folders_of_subsets(tmp_path):
    for subset, names in (("train", ("one", "two")), ("test", ("three",))):
        for stream, rows in (("rgb", 5), ("flow", 4)):
            for name in names:
                npy(tmp_path / "in" / subset / stream, name, features(rows, rows, 6, np.float64))
    store = imported(tmp_path, tmp_path / "in", "--fps", "30", "--stride", "4")
    assert store.ids == ("one", "three", "two")
    assert store.dtypes == {"flow": "float32", "rgb": "float32"}
    assert store["one"].streams["rgb"].shape == (4, 6)
    assert store.info("one")["notes"] == ["one stream had a row more than the other; it was cut"]
    assert store.grid("one").to_segment(0, 0).end == pytest.approx(4 / 30)
    (tmp_path / "in" / "test" / "flow" / "three.npy").unlink()
    npy(tmp_path / "in" / "train" / "flow", "two", features(0, 2, 6))
    failed = imported(tmp_path, tmp_path / "in", code=3).failures
    assert "no file of flow" in failed["three"]
    assert "its streams have" in failed["two"]


@needs_shared
def test_npy_streams_behind_the_name(tmp_path):
    arguments = ("--fps", "24.83", "--stride", "64")
    store = imported(tmp_path, SHARED / "data/features", *arguments)
    assert store.ids == ("women_long_jump",)
    for stream in ("rgb", "flow"):
        values = np.load(SHARED / f"data/features/women_long_jump_{stream}.npy")
        assert np.array_equal(store["women_long_jump"].streams[stream], values)
    grid = store.grid("women_long_jump")
    assert grid.num_snippets == 14
    assert grid.duration == pytest.approx(14 * 64 / 24.83)


def test_rows_of_unknown_streams_are_to_be_named(tmp_path):
    npy(tmp_path / "in", "v_abc", features(0, 7, 2304))
    said = call("import-features", tmp_path / "in", "--workspace", tmp_path, code=1).stderr
    assert "2304 columns of unknown streams; name them: --dims" in said
    assert imported(tmp_path, tmp_path / "in", "--dims", "rgb=2304").dims == {"rgb": 2304}
    assert imported(tmp_path, tmp_path / "in", "--dims", "slow=2048,fast=256").dims == {"slow": 2048, "fast": 256}


def test_hacs_has_two_rows_a_second_of_rgb(tmp_path):
    names = ("--0edUL8zmA", "__9PFRfSjE0")
    for name, subset in zip(names, ("training", "validation"), strict=True):
        npy(tmp_path / "in" / subset, name, features(1, 9, 32))
    store = imported(tmp_path, tmp_path / "in")
    assert store.identity["layout"] == "hacs-official"
    assert store.ids == names
    assert store.dims == {"rgb": 32}
    assert store.grid(names[0]).centers()[:2].tolist() == [0.25, 0.75]
    assert store.grid(names[0]).duration == 4.5


def test_hacs_goes_out_by_subset_and_bare_id(tmp_path):
    store = write_store(tmp_path / "store", ("rgb",), ("float32",), ids=("v_0edUL8zmA-a", "v_abcdefghij-"))
    truth = {name: {"subset": "validation", "annotations": []} for name in ("0edUL8zmA-a", "other")}
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    out = tmp_path / "out"
    call("export-features", store.path, out, "--layout", "hacs-official", "--annotations", tmp_path / "truth.json")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.npy")) == [
        "abcdefghij-.npy",
        "validation/0edUL8zmA-a.npy",
    ]
    assert_equal(store, imported(tmp_path, out))
    twice = write_store(tmp_path / "twice", ("rgb",), ("float32",), ids=("v_abcdefghij-", "abcdefghij-"))
    said = call("export-features", twice.path, tmp_path / "o", "--layout", "hacs-official", code=2).stderr
    assert "are the same video in this layout" in said


@pytest.mark.parametrize("header", [True, False])
def test_tables_are_spread_over_their_videos(tmp_path, header):
    values = features(0, 100, 400)
    for name in ("v_abc", "v_def", "v_none"):
        table(tmp_path / "in" / f"{name}.csv", values, header)
    truth = durations(tmp_path / "truth.json", abc=82.73, **{"def": 10.0})
    store = imported(tmp_path, tmp_path / "in", "--annotations", truth, code=3)
    assert store.identity["layout"] == "csv-per-video"
    assert store.dims == {"rgb": 200, "flow": 200}
    np.testing.assert_array_equal(store["v_abc"].streams["flow"], values[:, 200:])
    assert store.grid("v_abc").duration == 82.73
    assert store.grid("v_def").to_segment(50, 50).start == 5.0
    assert "duration is not in the annotations" in store.failures["v_none"]
    said = call("import-features", tmp_path / "in", "--workspace", tmp_path, code=2).stderr
    assert "give --annotations with durations, or --fps and --stride" in said
    assert (
        "give both --fps and --stride"
        in call("import-features", tmp_path / "in", "--fps", "25", "--workspace", tmp_path, code=2).stderr
    )


@pytest.mark.parametrize("seconds", [5e-324, 0.05, 400000.0, 1e300])
def test_a_table_is_not_spread_over_any_length(tmp_path, seconds):
    for name in ("a", "b"):
        table(tmp_path / "in" / f"v_{name}.csv", features(0, 100, 400))
    truth = durations(tmp_path / "truth.json", a=seconds, b=10.0)
    store = imported(tmp_path, tmp_path / "in", "--annotations", truth, code=3)
    assert store.ids == ("v_b",)
    assert store.failures["v_a"].startswith(f"it is annotated as {seconds:.6g} s, over which 100 rows cannot")


def test_raw_tables_are_folders_of_streams(tmp_path):
    for folder, seed in (("spatial", 0), ("temporal", 1)):
        table(tmp_path / "in" / folder / "csv_action" / "v_abc.csv", features(seed, 6, 20))
    store = imported(tmp_path, tmp_path / "in", "--fps", "30", "--stride", "16")
    np.testing.assert_array_equal(store["v_abc"].streams["rgb"], features(0, 6, 20))
    np.testing.assert_array_equal(store["v_abc"].streams["flow"], features(1, 6, 20))


def test_a_rate_that_cannot_be_is_refused(tmp_path):
    """HACS's features in one folder look like any others; as rows of 0.64 s, every time would be wrong."""
    for name in ("abc", "def"):
        npy(tmp_path / "in", f"v_{name}", features(0, 100, 2048))
    truth = durations(tmp_path / "truth.json", abc=50.0, **{"def": 50.2})
    arguments = ("import-features", tmp_path / "in", "--annotations", truth, "--workspace", tmp_path / "ws")
    said = call(*arguments, code=2).stderr
    assert "at the layout's rate, rows cover 128.0 s, the videos last 100.2 s" in said
    assert not (tmp_path / "ws" / "features").exists()
    assert call(*arguments, "--layout", "hacs-official").exit_code == 0
    told = call(*arguments, "--fps", "25", "--stride", "16")
    assert "rows cover 128.0 s, the videos last 100.2 s" in told.stderr


def write_stated(folder, name, fps, times, **rows):
    """Write the files of video_features: named rows, the rate, and the time of each row in milliseconds."""
    for word, values in rows.items():
        npy(folder, f"{name}_{word}", values)
    npy(folder, f"{name}_fps", np.array(fps))
    npy(folder, f"{name}_timestamps_ms", np.array(times))


def test_rates_beside_the_rows_are_those_of_their_videos(tmp_path):
    place, rgb = tmp_path / "in", features(0, 5, 6)
    write_stated(place, "b", 25.0, 640.0 * np.arange(5), rgb=rgb, flow=rgb)
    write_stated(place, "a", 30000 / 1001, 1001 / 30 * 64 * np.arange(1, 6), rgb=rgb, flow=rgb)
    overlapping = np.round(1000 / 25 * (24 + 4 * np.arange(5)), 3)
    write_stated(place, "c", 25.0, overlapping, rgb=rgb, flow=rgb)
    store = imported(tmp_path, place)
    assert store.ids == ("a", "b", "c")
    assert store.dims == {"rgb": 6, "flow": 6}
    assert [(store.grid(v).fps, store.grid(v).stride) for v in "ab"] == [(Fraction(30000, 1001), 64), (25, 16)]
    assert store.grid("b").to_segment(1, 4) == Segment(0.64, 3.2)
    # Rows every 4 frames of 24 that each was computed on: the first stands around frame 12.
    assert store.grid("c").centers().tolist() == pytest.approx([(12 + 4 * i) / 25 for i in range(5)])
    assert [store.grid(v).begins for v in "abc"] == [0, 0, 0], "only a late picture moves second 0"
    assert [store.grid(v).lead for v in "abc"] == [0, 0, 10]
    named = imported(tmp_path, place, "--fps", "10", "--stride", "5")
    assert named.path != store.path
    assert named.grid("c").to_segment(1, 1).start == 0.5
    npy(place, "b_fps", np.array(50.0))
    assert imported(tmp_path, place).grid("b").to_segment(1, 1) == Segment(0.64, 1.28)


def test_rows_may_have_the_name_of_their_network(tmp_path):
    write_stated(tmp_path / "in", "my_clip", 24.0, [0, 1000, 2000], clip=features(0, 3, 8))
    npy(tmp_path / "in", "at_high_fps", features(1, 4, 8))
    store = imported(tmp_path, tmp_path / "in", "--dims", "rgb=8")
    assert store.ids == ("at_high_fps", "my_clip")
    assert (store.grid("my_clip").duration, store.grid("at_high_fps").duration) == (3.0, 4 * 0.64)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("fps", "times", "words"),
    [
        (0.0, [0, 640, 1280], "wanted a rate"),
        (np.nan, [0, 640, 1280], "finite numbers"),
        (1e-300, [0, 640, 1280], "wanted a rate"),
        (1e300, [0, 640, 1280], "wanted a rate"),
        (25.0, [0, 640], "has 2 times for 3 rows"),
        (25.0, [0, 640, 1280, 1920, 2560], "has 5 times for 3 rows"),
        (25.0, [0, 640, 9000], "not evenly spaced"),
        (25.0, [0, 1e-9, 2e-9], "not evenly spaced"),
        (25.0, [0, 1e300, 2e300], "not evenly spaced"),
        (25.0, [-1.7e308, 0, 1.7e308], "not evenly spaced"),
        (25.0, [0, 0, 0], "not evenly spaced"),
    ],
)
def test_a_clock_beside_the_rows_that_cannot_be_is_its_videos_failure(tmp_path, fps, times, words):
    rows = features(0, 3, 6)
    write_stated(tmp_path / "in", "good", 25.0, [0, 640, 1280], rgb=rows)
    write_stated(tmp_path / "in", "odd", fps, times, rgb=rows)
    store = imported(tmp_path, tmp_path / "in", code=3)
    assert store.ids == ("good",)
    assert words in store.failures["odd"]
    assert "give --fps and --stride" in store.failures["odd"] or "finite" in words
    (tmp_path / "in" / "odd_fps.npy").unlink()
    assert "no _fps file next to it" in imported(tmp_path, tmp_path / "in", code=3).failures["odd"]
    (tmp_path / "in" / "odd_timestamps_ms.npy").write_bytes(b"damaged")
    assert "no _fps file next to it" in imported(tmp_path, tmp_path / "in", code=3).failures["odd"]


def test_one_name_in_several_folders_is_several_videos(tmp_path):
    for folder in ("a", "b"):
        npy(tmp_path / "in" / folder, "same", features(0, 3, 2048))
    assert imported(tmp_path, tmp_path / "in").ids == ("a/same", "b/same")
    npy(tmp_path / "in" / "a" / "rgb", "x", features(0, 3, 4))
    npy(tmp_path / "in" / "a", "x_rgb", features(0, 3, 4))
    said = call("import-features", tmp_path / "in", "--workspace", tmp_path, code=1).stderr
    assert "are of one video and stream" in said
