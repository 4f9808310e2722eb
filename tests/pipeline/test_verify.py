"""Damaged numbers in stores: named by every command that reads them, and repaired by following the message."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.bases import NARROW, STORE, TRUTH, named
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.store import FeatureStore

PLANTED = Path(STORE[1])


@pytest.fixture
def copy(base, tmp_path, monkeypatch):
    """A copy of the base as the working directory."""
    shutil.copytree(base, tmp_path / "base")
    monkeypatch.chdir(tmp_path / "base")
    monkeypatch.setenv("WTAL_WORKSPACE", "workspace")
    return tmp_path / "base"


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def line_of(*arguments):
    """The line that a refused call prints."""
    (line,) = [line for line in call(*arguments, code=1).stderr.splitlines() if line.startswith("wtal: ")]
    return line


def damage(store, video, stream):
    """Flip a bit in the middle of a video's rows; return the shard."""
    entry = json.loads((store / "index.json").read_text())["videos"][video]
    (path,) = store.glob(f"{stream}-{entry['shard']:05d}.npy")
    rows = np.load(path, mmap_mode="r+")
    rows[entry["offset"] + entry["rows"] // 2].view(np.uint8)[1] ^= 4
    rows.flush()
    return path


def values(store):
    opened = FeatureStore.open(store)
    return {video: {name: rows.tobytes() for name, rows in opened[video].streams.items()} for video in opened}


def advice(line):
    """The command in backquotes of a message, without its first word."""
    return shlex.split(line.split("`")[1])[1:]


def test_a_sound_workspace(copy):
    lines = call("verify").stdout.splitlines()
    assert lines[0] == f"{PLANTED}: 7 videos, no damage"
    assert len(lines) == 2  # the activations of the run that has detected
    run = named(copy, "RUN0")
    stores = json.loads(call("verify", run, PLANTED, PLANTED, "--json").stdout)["stores"]
    assert [store["store"] for store in stores] == [f"{run}/activations", str(PLANTED)]
    assert {store["unchecked"] for store in stores} == {0}
    assert "checksums  of all videos" in call("show", PLANTED).stdout
    assert "no store" in call("verify", "videos", code=2).stderr
    assert "does not exist" in call("verify", "nowhere", code=2).stderr


def test_training_and_exports_stop_at_damage_and_imports_repair_it(copy, tmp_path):
    """Features of other programs: the message's command, then the import."""
    store, ws = copy / named(copy, "RGB"), ("--workspace", "rgb")
    whole = values(store)
    trained = call("train", "kth/basnet", "--store", store, *TRUTH, *NARROW, *ws, "--seeds", "5").stdout.strip()
    shard = damage(store, "video-02", "rgb")
    for command in (
        ("train", "kth/basnet", "--store", store, *TRUTH, *NARROW, *ws, "--seeds", "6"),
        ("export-features", store, tmp_path / "out", "--layout", "npy-per-video"),
        ("detect", trained, *ws),
    ):
        line = line_of(*command)
        assert f"{shard.relative_to(copy)} is damaged (video-02: its rows differ from their checksum)" in line.replace(
            f"{copy}/", ""
        )
    assert "1 videos are damaged, in 1 of 1 stores; add --drop" in line_of("verify", store)
    assert "1 damaged (video-02)" in call("verify", store, code=1).stdout
    dropped = call(*advice(line))
    assert "1 dropped: repeat the command that wrote them" in dropped.stdout
    assert "failed video-02: its stored features were damaged" in call("show", store).stdout
    assert Path(call("import-features", "exported-rgb", *ws).stdout.strip()).samefile(store)
    assert values(store) == whole
    assert FeatureStore.open(store).failures == {}
    assert "no damage" in call("verify", store).stdout
    call("detect", trained, *ws)


def test_activations_are_computed_again(copy):
    run = Path(named(copy, "RUN0"))
    file = run / "detections/detections.json"
    before = file.read_bytes()
    shard = damage(run / "activations", "video-03", "cas")
    line = line_of("detect", run)
    assert f"{shard} is damaged (video-03: " in line
    call(*advice(line))
    call("detect", run)
    assert file.read_bytes() == before


def test_an_ensemble_is_resumed(copy):
    runs = [named(copy, "RUN0"), named(copy, "RUN1")]
    call("detect", runs[1])
    ensemble = Path("workspace/runs/both")
    call("ensemble", *runs, "--out", "both")
    whole, before = values(ensemble / "activations"), (ensemble / "detections/detections.json").read_bytes()
    damage(ensemble / "activations", "video-01", "cas")
    line = line_of("detect", ensemble)
    call(*advice(line))
    assert "run `wtal ensemble` with its members again to resume" in line_of("detect", ensemble)
    call("ensemble", *runs, "--out", "both")
    call("detect", ensemble)
    assert values(ensemble / "activations") == whole
    assert (ensemble / "detections/detections.json").read_bytes() == before


def test_a_merge_reads_no_damage_and_is_repaired(copy, tmp_path):
    rgb, flow = (named(copy, name) for name in ("RGB", "FLOW"))
    merged = Path(call("merge", rgb, flow, "--workspace", tmp_path / "m").stdout.strip())
    whole, files = values(merged), {path.name: path.read_bytes() for path in merged.iterdir()}
    again = Path(call("merge", rgb, flow, "--workspace", tmp_path / "again").stdout.strip())
    assert {path.name: path.read_bytes() for path in again.iterdir()} == files
    damage(merged, "video-04", "flow")
    call("verify", merged, "--drop")
    call("merge", rgb, flow, "--workspace", tmp_path / "m")
    assert values(merged) == whole
    shard = damage(Path(flow), "video-04", "flow")
    assert f"{shard} is damaged (video-04" in line_of("merge", rgb, flow, "--workspace", tmp_path / "other")


def test_an_extracted_video_is_extracted_again(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("one", "two"):
        write_video(videos / f"{name}.mp4", constant(25, 35))
    extract = ("extract", videos, "--workspace", tmp_path / "ws", "--jobs", "1")
    store = Path(call(*extract).stdout.strip())
    whole = values(store)
    damage(store, "two", "flow")
    call("verify", "--workspace", tmp_path / "ws", code=1)
    call("verify", "--workspace", tmp_path / "ws", "--drop")
    result = call(*extract)
    assert "1 of 2 videos are already in" in result.stderr
    assert values(store) == whole
    call("verify", "--workspace", tmp_path / "ws")


def test_a_store_that_cannot_be_opened_hides_no_other(copy):
    (PLANTED / "rgb-00000.npy").unlink()
    result = call("verify", code=1)
    assert "rgb-00000.npy is missing" in result.stdout
    assert "activations: 7 videos, no damage" in result.stdout
    assert "0 videos are damaged, in 1 of 2 stores; restore the files" in result.stderr


def test_a_store_of_an_earlier_version(copy):
    index = json.loads((PLANTED / "index.json").read_text())
    for entry in index["videos"].values():
        del entry["rows_crc32"], entry["entry_crc32"]
    (PLANTED / "index.json").write_text(json.dumps(index))
    damage(PLANTED, "video-00", "rgb")
    assert "7 videos, 7 without checksums, written by an earlier version" in call("verify", PLANTED).stdout
    assert "checksums  none; an earlier version wrote the store" in call("show", PLANTED).stdout
    run = named(copy, "RUN0")
    before = (copy / run / "run.json").read_bytes()
    retrained = call("train", "kth/basnet", *STORE, *TRUTH, *NARROW)
    assert retrained.stdout.strip() == run
    assert "is already trained" in retrained.stderr
    assert (copy / run / "run.json").read_bytes() == before


def test_changed_numbers_of_an_export_are_noted(copy, tmp_path):
    store = Path(call("import-features", "exported-rgb", "--workspace", tmp_path / "same").stdout.strip())
    assert values(store) == {key: {"rgb": rows["rgb"]} for key, rows in values(PLANTED).items()}
    assert not any("notes" in FeatureStore.open(store).info(video) for video in values(store))
    (file,) = Path("exported-rgb").rglob("video-05.npy")
    rows = np.load(file)
    rows[0, 0] += 1
    np.save(file, rows)
    result = call("import-features", "exported-rgb", "--workspace", tmp_path / "changed")
    assert "videos whose numbers differ from those that were exported: 1 of 7 (video-05)" in result.stderr
    assert FeatureStore.open(result.stdout.strip()).info("video-05")["notes"] == [
        "its numbers differ from those that were exported"
    ]
