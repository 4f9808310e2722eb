"""Import and export of published features: every layout, its rate, its streams, and refusals."""

import json
import pickle
import shutil
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.layouts import IDS, assert_equal, call, export, features, imported, npy, table, write_store
from wtal.cli import main
from wtal.data.layout import file_name
from wtal.data.layouts import LAYOUTS, guess_layout
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.pipeline.inspection.inventory import inventory

EVERY = pytest.mark.parametrize("layout", LAYOUTS.names())


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
    """Import streams other than rgb and flow, and prefer a given rate."""
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
    assert "already holds" in call("export-features", store.path, out, "--layout", layout, code=2).stderr
    wrong = call("export-features", store.path, tmp_path / "o", "--layout", layout, "--streams", "rgb,depth", code=2)
    assert "no stream 'depth'" in wrong.stderr
    assert not (tmp_path / "o").exists()
    assert "no feature store" in call("export-features", tmp_path, tmp_path / "o", "--layout", layout, code=2).stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert "choose a new" in call("export-features", store.path, ".", "--layout", layout, code=2).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out", "store"]
    rate = ("--fps", "25", "--stride", "16")
    said = call("import-features", empty, "--layout", layout, *rate, "--workspace", tmp_path, code=1).stderr
    assert str(empty) in said
    assert not (tmp_path / "features").exists()


def damage(path, layout):
    """Kinds of damage to a video's file: (damage, message)."""
    if layout == "csv-per-video":
        return [
            (lambda: path.write_text("f0,f1\n1,2\n3\n"), "is not a table of numbers"),
            (lambda: path.write_text("f0\n1\nx\n"), "is not a table of numbers"),
            (lambda: path.write_text("f0,f1,f2\n1,nan,2\n"), "not finite"),
            (lambda: path.write_text("f0,f1,f2\n1,inf,2\n"), "not finite"),
            (lambda: path.write_text("f0,f1,f2\n1,1e300,2\n"), "not finite"),
            (lambda: path.write_text("f0,f1,f2\n"), "no rows of features"),
            (lambda: path.write_bytes(b""), "--dims rgb=3 add up to 3"),
            (lambda: path.write_bytes(b"\xff\xfe\x00"), "is not UTF-8 text"),
            (lambda: path.write_text("f0\n1\n"), "1 columns, but --dims rgb=3"),
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
        (save(np.zeros((0, 3), np.float32)), "no rows of features"),
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


def test_files_that_look_like_nothing_or_too_much_are_to_be_named(tmp_path):
    assert "matches none of" in call("import-features", tmp_path, "--workspace", tmp_path / "ws", code=2).stderr
    npy(tmp_path / "in", "v_abc", features(0, 3, 2048))
    table(tmp_path / "in" / "v_abc.csv", features(0, 3, 400))
    with pytest.raises(UsageError, match="csv-per-video or npy-per-video; name its layout"):
        guess_layout(tmp_path / "in")
    assert imported(tmp_path, tmp_path / "in", "--layout", "npy-per-video").ids == ("v_abc",)
    assert "does not exist" in call("import-features", tmp_path / "absent", "--workspace", tmp_path, code=2).stderr


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
        ("{}", 1, "not a note that this version of wtal reads"),
        (json.dumps({**content, "streams": [{}]}), 1, "is damaged"),
        (json.dumps({**content, "layout": "thumos"}), 2, "there is no layout 'thumos'"),
        (json.dumps({**content, "videos": {"two": content["videos"]["two"]}}), 3, "not in the exporter's note"),
        (json.dumps({**content, "videos": {"one": {**two, "id": "one"}, "two": two}}), 3, "the exporter's note says"),
        (json.dumps({**content, "videos": {"one": two, "two": two}}), 1, "two videos have the same id"),
        (json.dumps({**content, "streams": [{**content["streams"][0], "dtype": "object"}]}), 1, "is damaged"),
        (json.dumps({**content, "backbone": "../../elsewhere"}), 2, "--backbone takes a plain name"),
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
    assert "one NAME=WIDTH per stream" in twice.stderr
    shutil.move(out / "videoname.npy", tmp_path / "videoname.npy")
    assert "has no videoname.npy" in call("import-features", alone, *dims, code=1).stderr
    assert call("import-features", alone, "--annotations", tmp_path, *dims, code=2)
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
