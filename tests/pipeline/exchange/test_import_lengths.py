"""Rows of published features against annotated durations: most videos determine the rate, outliers are named."""

import json

import numpy as np
import pytest

from tests.support.layouts import call, durations, features, imported, npy
from tests.support.reference import SHARED, needs_shared
from wtal.data.store import FeatureStore

CASES = SHARED / "cases" / "09_import"


def rows_of(tmp_path, **rows):
    """Write a folder of rows of 0.64 s, with their number per video; return it with the options of an import."""
    for name, count in rows.items():
        npy(tmp_path / "in", name, features(count, count, 8))
    return tmp_path / "in", "--dims", "rgb=8"


@pytest.mark.parametrize("wrong", [300.0, 1e300, 0.5, 1e-3])
def test_a_duration_of_another_video_is_that_videos_failure(tmp_path, wrong):
    given = rows_of(tmp_path, a=20, b=21, c=22, d=23)
    truth = durations(tmp_path / "truth.json", a=12.8, b=wrong, c=14.08, d=14.72)
    store = imported(tmp_path, *given, "--annotations", truth, code=3)
    assert store.ids == ("a", "c", "d")
    assert f"its rows cover 13.44 s, its annotated duration is {wrong:.6g} s" in store.failures["b"]
    mended = durations(tmp_path / "truth.json", a=12.8, b=13.44, c=14.08, d=14.72)
    store = imported(tmp_path, *given, "--annotations", mended)
    assert (store.ids, store.failures) == (("a", "b", "c", "d"), {})


def test_short_rows_are_imported_and_named(tmp_path):
    given = rows_of(tmp_path, a=40, b=12, c=40, d=30)
    truth = durations(tmp_path / "truth.json", a=25.6, b=25.6, c=25.6, d=25.6)
    told = call("import-features", *given, "--annotations", truth, "--workspace", tmp_path / "ws", "--json")
    line = (
        "videos of 4 whose annotated duration differs from that of their features: 2 (v_b, v_d); the worst is v_b, "
        "annotated as 25.6 s, but its features end at 7.68 s"
    )
    assert line in told.stderr
    assert json.loads(told.stdout)["notes"] == [line]
    assert FeatureStore.open(json.loads(told.stdout)["store"]).ids == ("a", "b", "c", "d")


def test_half_of_the_videos_are_enough_and_fewer_are_not(tmp_path):
    given = rows_of(tmp_path, a=20, b=20, c=20)
    two = durations(tmp_path / "truth.json", a=12.8, b=40.0, c=12.8)
    assert imported(tmp_path, *given, "--annotations", two).ids == ("a", "b", "c")
    one = durations(tmp_path / "truth.json", a=12.8, b=40.0, c=40.0)
    refused = call("import-features", *given, "--annotations", one, "--workspace", tmp_path / "ws", code=2)
    assert "at the layout's rate, rows cover 38.4 s, the videos last 92.8 s" in refused.stderr


def test_a_rate_that_is_named_is_taken_and_the_odd_one_is_odd_beside_the_others(tmp_path):
    given = rows_of(tmp_path, a=100, b=100, c=100)
    truth = durations(tmp_path / "truth.json", a=6.4, b=6.4, c=6400.0)
    named = (*given, "--annotations", truth, "--fps", "25", "--stride", "16")
    store = imported(tmp_path, *named, code=3)
    assert store.ids == ("a", "b")
    assert store.grid("a").duration == 64.0


@needs_shared
def test_the_cases_are_imported_but_for_the_odd_one(tmp_path):
    dims = ("--dims", "rgb=8")
    long = imported(tmp_path, CASES / "four", *dims, "--annotations", CASES / "one_is_long.json", code=3)
    assert (long.ids, [*long.failures]) == (("v_a0", "v_a2", "v_a3"), ["v_a1"])
    given = (CASES / "one_is_short", *dims, "--annotations", CASES / "one_is_short.json")
    said = call("import-features", *given, "--workspace", tmp_path / "ws")
    assert "differs from that of their features: 1 (a9)" in said.stderr
    stated = imported(tmp_path, CASES / "video_features")
    assert stated.ids == ("a0", "a1", "a2")
    assert np.allclose([stated.grid(name).duration for name in stated.ids], 12.8)
    assert stated.dims == {"rgb": 8, "flow": 8}
