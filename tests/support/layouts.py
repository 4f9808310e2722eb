"""Published features in files of every layout, and stores from them."""

import json
from fractions import Fraction

import numpy as np
from click.testing import CliRunner

from wtal.cli import main
from wtal.data.grid import SnippetGrid
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter

IDS = ("v_abcdefghijk", "a b", "run/001", "run_001", "x_rgb", "100%", "ü.v2", ".hidden", "b-flow")


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    if code in (1, 2):
        assert len([line for line in result.stderr.splitlines() if line.startswith(("wtal:", "Error:"))]) == 1
    return result


def features(seed, rows, dim, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(dtype)


def write_store(path, streams=("rgb", "flow"), dtypes=("float32", "float16"), ids=IDS):
    writer = StoreWriter.open(path, {"backbone": "made", "weights": {s: {"weights": {"random": s}} for s in streams}})
    for number, video in enumerate(ids):
        grid = SnippetGrid(Fraction(30000, 1001), 37 + 16 * number, Fraction(16, 3), 11, "pad")
        values = {
            stream: features(number, grid.num_snippets, 3 + index, dtype)
            for index, (stream, dtype) in enumerate(zip(streams, dtypes, strict=True))
        }
        writer.write(video, grid, values, {"reader": "none"}, f"mark {number}")
    return writer.publish()


def assert_equal(first, second):
    assert first.ids == second.ids
    assert first.dims == second.dims
    assert first.dtypes == second.dtypes
    for video in first.ids:
        assert first.grid(video) == second.grid(video)
        for stream, values in first[video].streams.items():
            assert values.tobytes() == second[video].streams[stream].tobytes()


def export(store, layout, out):
    """Export all streams, or only rgb if the layout requires that."""
    result = CliRunner().invoke(main, ["export-features", str(store.path), str(out), "--layout", layout])
    if result.exit_code == 2 and "--streams rgb" in result.stderr:
        assert not [*out.parent.glob(f"*{out.name}*")]
        result = call("export-features", store.path, out, "--layout", layout, "--streams", "rgb")
    assert result.exit_code == 0, result.output
    return result


def npy(folder, name, values):
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def table(path, values, header=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ",".join(f"f{i}" for i in range(values.shape[1])) if header else ""
    np.savetxt(path, values, delimiter=",", header=names, comments="")


def durations(path, **seconds):
    path.write_text(json.dumps({f"v_{k}": {"duration_second": v, "annotations": []} for k, v in seconds.items()}))
    return path


def imported(tmp_path, *arguments, code=0):
    return FeatureStore.open(
        call("import-features", *arguments, "--workspace", tmp_path / "ws", code=code).stdout.strip()
    )
