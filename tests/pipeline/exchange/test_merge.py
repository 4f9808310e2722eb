"""Stores of different rates on one grid."""

from fractions import Fraction

import numpy as np
from click.testing import CliRunner

from wtal.cli import main
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write_store(path, stream, fps, stride, seconds, dim, backbone, ids=("a", "b")):
    writer = StoreWriter.open(path, {"backbone": backbone})
    for video in ids:
        grid = SnippetGrid(Fraction(fps), int(seconds * fps), Fraction(stride), stride)
        values = np.repeat(grid.centers()[:, None], dim, axis=1).astype(np.float32)
        writer.write(video, grid, {stream: values}, {"reader": "none"}, "mark")
    return writer.publish().path


def test_streams_of_two_rates_meet_on_one_grid(tmp_path):
    """Features equal to their seconds stay so on the other grid."""
    rgb = write_store(tmp_path / "rgb", "rgb", 2, 1, 30, 3, "official", ids=("a", "b", "c"))
    flow = write_store(tmp_path / "flow", "flow", 25, 16, 30, 2, "i3d")
    for place, wanted in (("1", rgb), ("2", flow)):
        result = call("merge", rgb, flow, "--grid", place, "--workspace", tmp_path / "workspace")
        assert result.exit_code == 0, result.output
        assert "left out, not in every store: 1 videos (first: c)" in result.stderr
        merged, target = FeatureStore.open(result.stdout.strip()), FeatureStore.open(wanted)
        assert set(merged.ids) == {"a", "b"}
        assert merged.dims == {"rgb": 3, "flow": 2}
        grid = merged.grid("a")
        assert grid == target.grid("a")
        seconds = grid.centers()[1:-1]
        for values in merged["a"].streams.values():
            np.testing.assert_allclose(values[1:-1, 0], seconds, atol=1e-5)
        own = next(iter(target.dims))
        assert np.array_equal(merged["a"].streams[own], target["a"].streams[own])


def test_what_cannot_be_merged_is_refused(tmp_path):
    one = write_store(tmp_path / "one", "rgb", 2, 1, 10, 3, "x")
    same = write_store(tmp_path / "same", "rgb", 4, 1, 10, 3, "y")
    other = write_store(tmp_path / "other", "flow", 2, 1, 10, 3, "y", ids=("z",))
    for stores, words in (((one,), "at least two stores"), ((one, same), "stream 'rgb'"), ((one, other), "no video")):
        result = call("merge", *stores, "--workspace", tmp_path / "workspace")
        assert result.exit_code == 2
        assert words in result.stderr
    assert call("merge", one, other, "--grid", "3", "--workspace", tmp_path).exit_code == 2
