"""Published features in and out: every layout, its rate, its streams, and what is refused."""

import json
import pickle
import shutil
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.reference import SHARED, needs_shared
from wtal.cli import main
from wtal.data.grid import SnippetGrid
from wtal.data.layout import file_name, guess_layout
from wtal.data.object_arrays import read_array
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.errors import FormatError, UsageError
from wtal.pipeline.inspection.inventory import inventory
from wtal.registry import LAYOUTS

IDS = ("v_abcdefghijk", "a b", "run/001", "run_001", "x_rgb", "100%", "ü.v2", ".hidden", "b-flow")
EVERY = pytest.mark.parametrize("layout", LAYOUTS.names())


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
            stream: features(number, grid.num_snippets, 3 + place, dtype)
            for place, (stream, dtype) in enumerate(zip(streams, dtypes, strict=True))
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
    """Export all streams, or rgb alone where the layout wants that."""
    result = CliRunner().invoke(main, ["export-features", str(store.path), str(out), "--layout", layout])
    if result.exit_code == 2 and "--streams rgb" in result.stderr:
        assert not [*out.parent.glob(f"*{out.name}*")]
        result = call("export-features", store.path, out, "--layout", layout, "--streams", "rgb")
    assert result.exit_code == 0, result.output
    return result


@EVERY
def test_every_layout_keeps_the_contract(layout, tmp_path):
    module = LAYOUTS.load(layout)
    assert bool(module.FPS) == bool(module.STRIDE)
    assert all(Fraction(text) > 0 for text in (module.FPS, module.STRIDE) if text)
    assert module.BACKBONE
    assert inventory("layouts")[layout]
    assert module.sniff(tmp_path) is module.sniff(tmp_path / "absent") is False
    (tmp_path / "empty.npy").touch()
    (tmp_path / "broken.npy").write_bytes(b"no array")
    assert not any(module.sniff(path) for path in (tmp_path, *tmp_path.iterdir()))


@EVERY
def test_what_is_exported_is_found_without_the_note(layout, tmp_path):
    ids = ("v_0edUL8zmA-a", "v_abcdefghij-")
    store = write_store(tmp_path / "store", ("rgb",), ("float32",), ids=ids)
    truth = {name: {"subset": "training", "annotations": []} for name in ids}
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    out = tmp_path / "out"
    call("export-features", store.path, out, "--layout", layout, "--annotations", tmp_path / "truth.json")
    (out / "wtal.json").unlink()
    assert guess_layout(out) == layout


@EVERY
@pytest.mark.parametrize("dtypes", [("float32", "float16"), ("float16", "float16"), ("float32", "float32")])
def test_a_store_comes_back_bit_for_bit(layout, dtypes, tmp_path):
    store = write_store(tmp_path / "store", dtypes=dtypes)
    said = export(store, layout, tmp_path / "out")
    module = LAYOUTS.load(layout)
    assert ("s apart in this store" in said.stderr) is bool(module.FPS)
    imported = call("import-features", tmp_path / "out", "--workspace", tmp_path / "ws").stdout.strip()
    first = FeatureStore.open(imported)
    assert first.failures == {}
    assert first.identity["backbone"] == "made"
    assert first.identity["weights"] == {s: {"weights": {"random": s}} for s in first.dims}
    for video in store.ids:
        assert store.grid(video) == first.grid(video)
        for stream, values in first[video].streams.items():
            assert values.dtype == store[video].streams[stream].dtype
            assert values.tobytes() == store[video].streams[stream].tobytes()
    export(first, layout, tmp_path / "again")
    again = call("import-features", tmp_path / "again", "--workspace", tmp_path / "ws2").stdout.strip()
    assert_equal(first, FeatureStore.open(again))
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "out")).read_bytes()


@EVERY
def test_published_values_come_back_through_every_layout(layout, tmp_path):
    """Other streams than rgb and flow too; an import that names its own rate takes that."""
    store = write_store(tmp_path / "store", ("sound",), ("float32",), ids=("one", "two"))
    result = CliRunner().invoke(main, ["export-features", str(store.path), str(tmp_path / "out"), "--layout", layout])
    if result.exit_code == 2:
        return
    one = FeatureStore.open(call("import-features", tmp_path / "out", "--workspace", tmp_path).stdout.strip())
    assert_equal(store, one)
    arguments = ("--workspace", tmp_path, "--fps", "10", "--stride", "5/2")
    other = FeatureStore.open(call("import-features", tmp_path / "out", *arguments).stdout.strip())
    assert other.path != one.path
    assert other.grid("one").to_segment(2, 2).start == 0.5
    assert other["one"].streams["sound"].tobytes() == one["one"].streams["sound"].tobytes()


@EVERY
def test_an_import_and_an_export_are_refused_in_one_line(layout, tmp_path, monkeypatch):
    store = write_store(tmp_path / "store", ("rgb",), ("float32",), ids=("one", "two"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").touch()
    assert "is there already" in call("export-features", store.path, out, "--layout", layout, code=2).stderr
    wrong = call("export-features", store.path, tmp_path / "o", "--layout", layout, "--streams", "rgb,depth", code=2)
    assert "no stream 'depth'" in wrong.stderr
    assert not (tmp_path / "o").exists()
    assert "no feature store" in call("export-features", tmp_path, tmp_path / "o", "--layout", layout, code=1).stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert "name a new" in call("export-features", store.path, ".", "--layout", layout, code=2).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out", "store"]
    rate = ("--fps", "25", "--stride", "16")
    said = call("import-features", empty, "--layout", layout, *rate, "--workspace", tmp_path, code=1).stderr
    assert str(empty) in said
    assert not (tmp_path / "features").exists()


def damage(path, layout):
    """The ways in which one video's file can be broken: (what to do, what is said)."""
    if layout == "csv-per-video":
        return [
            (lambda: path.write_text("f0,f1\n1,2\n3\n"), "is no table of numbers"),
            (lambda: path.write_text("f0\n1\nx\n"), "is no table of numbers"),
            (lambda: path.write_text("f0,f1,f2\n1,nan,2\n"), "not finite"),
            (lambda: path.write_text("f0,f1,f2\n1,inf,2\n"), "not finite"),
            (lambda: path.write_text("f0,f1,f2\n1,1e300,2\n"), "not finite"),
            (lambda: path.write_text("f0,f1,f2\n"), "no row of features"),
            (lambda: path.write_bytes(b""), "--dims rgb=3 are 3"),
            (lambda: path.write_bytes(b"\xff\xfe\x00"), "is not UTF-8 text"),
            (lambda: path.write_text("f0\n1\n"), "1 columns, and --dims rgb=3"),
        ]

    def save(value, **options):
        return lambda: np.save(path, value, **options)

    def objects():
        array = np.empty(1, dtype=object)
        array[0] = Evil()
        np.save(path, array, allow_pickle=True)

    return [
        (lambda: path.write_bytes(b""), "not a readable .npy file"),
        (lambda: path.write_bytes(b"no array at all"), "not a readable .npy file"),
        (lambda: path.write_bytes(path.read_bytes()[:-7]), "it is cut off"),
        (lambda: path.write_bytes(path.read_bytes()[:20]), "not a readable .npy file"),
        (save(np.zeros((4, 3)) * np.nan), "not finite"),
        (save(np.full((4, 3), 1e300)), "not finite"),
        (save(np.zeros((0, 3), np.float32)), "no row of features"),
        (save(np.zeros((4, 0), np.float32)), "wanted (T, D) numbers"),
        (save(np.zeros((4, 3, 1), np.float32)), "wanted (T, D) numbers"),
        (save(np.zeros((4, 3), "U3")), "wanted (T, D) numbers"),
        (save(np.zeros((4, 3), complex)), "wanted (T, D) numbers"),
        (save(np.zeros((4, 5), np.float32)), "5"),
        (objects, "plain .npy file"),
    ]


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


@pytest.mark.parametrize("layout", ["npy-per-video", "hacs-official", "csv-per-video"])
def test_a_broken_file_is_one_failure_and_the_rest_is_imported(layout, tmp_path):
    store = write_store(tmp_path / "store", ("rgb",), ("float32",), ids=("one", "two", "zwei"))
    call("export-features", store.path, tmp_path / "out", "--layout", layout)
    (path,) = (tmp_path / "out").rglob("two.*")
    whole = path.read_bytes()
    for number in range(len(damage(path, layout))):
        path.write_bytes(whole)
        hurt, said = damage(path, layout)[number]
        hurt()
        place = tmp_path / f"ws{number}"
        result = call("import-features", tmp_path / "out", "--workspace", place, code=3)
        assert "code was run" not in result.output
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("not imported")]
        assert line.startswith("not imported: two: ")
        assert said in line
        found = FeatureStore.open(result.stdout.strip())
        assert found.ids == ("one", "zwei")
        assert said in found.failures["two"]
        again = call("import-features", tmp_path / "out", "--workspace", place, code=3)
        assert again.stdout == result.stdout


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
    assert store.info("one")["notes"] == ["a stream had a row more than the other; it was cut"]
    assert store.grid("one").to_segment(0, 0).end == pytest.approx(4 / 30)
    (tmp_path / "in" / "test" / "flow" / "three.npy").unlink()
    npy(tmp_path / "in" / "train" / "flow", "two", features(0, 2, 6))
    failed = imported(tmp_path, tmp_path / "in", code=3).failures
    assert "no file of its flow" in failed["three"]
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
    assert "2304 columns of streams that nobody names; name them: --dims" in said
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
    assert "are one video in this layout" in said


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
    assert "do not say how long" in store.failures["v_none"]
    said = call("import-features", tmp_path / "in", "--workspace", tmp_path, code=2).stderr
    assert "name --annotations that know the durations, or --fps and --stride" in said
    assert (
        "go together" in call("import-features", tmp_path / "in", "--fps", "25", "--workspace", tmp_path, code=2).stderr
    )


def test_raw_tables_are_folders_of_streams(tmp_path):
    for folder, seed in (("spatial", 0), ("temporal", 1)):
        table(tmp_path / "in" / folder / "csv_action" / "v_abc.csv", features(seed, 6, 20))
    store = imported(tmp_path, tmp_path / "in", "--fps", "30", "--stride", "16")
    np.testing.assert_array_equal(store["v_abc"].streams["rgb"], features(0, 6, 20))
    np.testing.assert_array_equal(store["v_abc"].streams["flow"], features(1, 6, 20))


def test_a_rate_that_cannot_be_is_refused(tmp_path):
    """HACS's features in one folder look like any others: taken for rows of 0.64 s, every second would be wrong."""
    for name in ("abc", "def"):
        npy(tmp_path / "in", f"v_{name}", features(0, 100, 2048))
    truth = durations(tmp_path / "truth.json", abc=50.0, **{"def": 50.2})
    arguments = ("import-features", tmp_path / "in", "--annotations", truth, "--workspace", tmp_path / "ws")
    said = call(*arguments, code=2).stderr
    assert "at the layout's rate rows cover 128.0 s of videos that last 100.2 s" in said
    assert not (tmp_path / "ws" / "features").exists()
    assert call(*arguments, "--layout", "hacs-official").exit_code == 0
    told = call(*arguments, "--fps", "25", "--stride", "16")
    assert "rows cover 128.0 s of videos that last 100.2 s" in told.stderr


def test_files_that_look_like_nothing_or_too_much_are_to_be_named(tmp_path):
    assert "looks like none of" in call("import-features", tmp_path, "--workspace", tmp_path / "ws", code=2).stderr
    npy(tmp_path / "in", "v_abc", features(0, 3, 2048))
    table(tmp_path / "in" / "v_abc.csv", features(0, 3, 400))
    with pytest.raises(UsageError, match="csv-per-video or npy-per-video; name its layout"):
        guess_layout(tmp_path / "in")
    assert imported(tmp_path, tmp_path / "in", "--layout", "npy-per-video").ids == ("v_abc",)
    assert "nothing at" in call("import-features", tmp_path / "absent", "--workspace", tmp_path, code=2).stderr


def test_one_name_in_several_folders_is_several_videos(tmp_path):
    for folder in ("a", "b"):
        npy(tmp_path / "in" / folder, "same", features(0, 3, 2048))
    assert imported(tmp_path, tmp_path / "in").ids == ("a/same", "b/same")
    npy(tmp_path / "in" / "a" / "rgb", "x", features(0, 3, 4))
    npy(tmp_path / "in" / "a", "x_rgb", features(0, 3, 4))
    said = call("import-features", tmp_path / "in", "--workspace", tmp_path, code=1).stderr
    assert "are of one video and stream" in said


def test_other_bytes_make_another_store(tmp_path):
    npy(tmp_path / "in", "v_abc", features(0, 3, 2048))
    first = imported(tmp_path, tmp_path / "in")
    npy(tmp_path / "in", "v_abc", features(1, 3, 2048))
    assert imported(tmp_path, tmp_path / "in").path != first.path


@EVERY
def test_a_damaged_note_is_named(layout, tmp_path):
    store = write_store(tmp_path / "store", ("rgb",), ("float32",), ids=("one", "two"))
    call("export-features", store.path, tmp_path / "out", "--layout", layout)
    note = tmp_path / "out" / "wtal.json"
    content = json.loads(note.read_text())
    two = content["videos"]["two"]
    for change, code, said in (
        ("{", 1, "is not JSON"),
        ("{}", 1, "no note of exported features that this wtal reads"),
        (json.dumps({**content, "streams": [{}]}), 1, "is damaged"),
        (json.dumps({**content, "layout": "thumos"}), 2, "there is no layout 'thumos'"),
        (json.dumps({**content, "videos": {"two": content["videos"]["two"]}}), 3, "does not know it"),
        (json.dumps({**content, "videos": {"one": {**two, "id": "one"}, "two": two}}), 3, "the exporter's note says"),
        (json.dumps({**content, "videos": {"one": two, "two": two}}), 1, "two videos have one id"),
        (json.dumps({**content, "streams": [{**content["streams"][0], "dtype": "object"}]}), 1, "is damaged"),
        (json.dumps({**content, "backbone": "../../elsewhere"}), 2, "a backbone is a plain name"),
    ):
        note.write_text(change)
        result = call("import-features", tmp_path / "out", "--workspace", tmp_path / "ws", code=code)
        assert said in result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_joint_files_are_found_and_checked(tmp_path):
    store = write_store(tmp_path / "store", dtypes=("float32", "float32"), ids=("one", "two"))
    out = tmp_path / "out"
    call("export-features", store.path, out, "--layout", "wtalc-joint")
    joint = np.load(out / "features.npy", allow_pickle=True)
    assert [rows.shape[1] for rows in joint] == [7, 7]
    assert np.load(out / "videoname.npy").tolist() == [b"one", b"two"]
    (out / "wtal.json").unlink()
    (tmp_path / "truth.json").write_text(json.dumps({"database": {"three": {"subset": "training", "annotations": []}}}))
    alone = out / "features.npy"
    dims = ("--dims", "rgb=3,flow=4", "--workspace", tmp_path / "ws")
    found = FeatureStore.open(call("import-features", alone, *dims).stdout.strip())
    for video in store.ids:
        for stream in ("rgb", "flow"):
            assert np.array_equal(found[video].streams[stream], store[video].streams[stream])
    assert found.grid("one").stride / found.grid("one").fps == Fraction(16, 25)
    assert call("import-features", alone, "--annotations", tmp_path / "truth.json", *dims).stdout.strip() == str(
        found.path
    )
    twice = call("import-features", alone, "--dims", "rgb=3,rgb=4", "--workspace", tmp_path / "ws", code=2)
    assert "each name once" in twice.stderr
    shutil.move(out / "videoname.npy", tmp_path / "videoname.npy")
    assert "has no videoname.npy" in call("import-features", alone, *dims, code=1).stderr
    assert call("import-features", alone, "--annotations", tmp_path, *dims, code=1)
    alone.write_bytes(alone.read_bytes()[:-30])
    shutil.move(tmp_path / "videoname.npy", out / "videoname.npy")
    assert "not a readable .npy file" in call("import-features", alone, *dims, code=1).stderr


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickled_arrays_of_every_age_are_read(protocol, tmp_path):
    rows = np.empty(2, dtype=object)
    rows[0], rows[1] = features(0, 5, 4), features(1, 5, 4).astype(">f4")
    with (tmp_path / "joint.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (2,)})
        pickle.dump(rows, file, protocol=protocol)
    np.save(tmp_path / "videoname.npy", np.array([b"one", b"two"]))
    store = imported(tmp_path, tmp_path / "joint.npy")
    assert store.identity["layout"] == "wtalc-joint"
    assert np.array_equal(store["two"].streams["flow"], rows[1][:, 2:])


def test_names_of_files_are_names_of_files():
    names = [file_name(video) for video in IDS]
    assert len(set(names)) == len(IDS)
    assert names[0] == IDS[0]
    assert not any("/" in name or name.startswith(".") for name in names)


def test_damaged_object_arrays_are_refused_and_crash_nothing(tmp_path):
    """numpy's own classes, filled by such a pickle, bring the process down."""
    rows = np.empty(3, dtype=object)
    rows[0], rows[1], rows[2] = features(0, 2, 4), [1, b"two", 3.5], np.float16(4)
    path = tmp_path / "objects.npy"
    np.save(path, rows, allow_pickle=True)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    found = read_array(path)
    assert found[0].tobytes() == rows[0].tobytes()
    assert found[1:].tolist() == [[1, b"two", 3.5], 4.0]
    refused = 0
    for _ in range(1500):
        broken = bytearray(whole)
        for place in random.integers(80, len(whole), 2):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_array(path)
        except FormatError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    ("shape", "dtype", "content"),
    [
        ((1,), "O8", b"12345678"),
        ((2,), "O8", [1]),
        ((2,), "f4", b"1234"),
        ((10**12,), "f4", b""),
        ((-1,), "f4", b"1234"),
        ((1,), "V8", b"12345678"),
        ((1,), "f4,f4", b"12345678"),
        ((1,), "f4", [1.0]),
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(shape, dtype, content, tmp_path):
    class Forged:
        def __reduce__(self):
            make, arguments, _ = np.zeros(1).__reduce__()
            return make, arguments, (1, shape, Type(), False, content)

    class Type:
        def __reduce__(self):
            return np.dtype, (dtype, False, True), (3, "|", None, None, None, -1, -1, 0)

    with (tmp_path / "forged.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        pickle.dump(Forged(), file)
    with pytest.raises(FormatError, match=r"forged\.npy is not a readable \.npy file: "):
        read_array(tmp_path / "forged.npy")
