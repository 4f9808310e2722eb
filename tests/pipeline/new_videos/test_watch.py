"""`wtal detect RUN --watch FOLDER`: each video is in the results once, whatever happens to files and process."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.pipeline.new_videos.conftest import call, line_of, results
from tests.support.reference import REPOSITORY
from wtal.data.segments import Detection
from wtal.errors import FormatError, UsageError
from wtal.pipeline.new_videos.detect_new import NewVideos
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.new_videos.open_model import open_model
from wtal.pipeline.new_videos.watch import Pace, ProcessedFile, ProcessedRecord, Stamp, Watch
from wtal.pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def detector(collection):
    return Detector(open_model(collection.run))


@pytest.fixture
def folder(tmp_path):
    """Watched folder."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(detector, collection, folder, tmp_path):
    """Reopen the watch, as after a restart, with features from the collection's workspace."""
    return lambda settle=0.0: Watch(
        detector, folder, Workspace(collection.workspace), tmp_path / "out", Pace(0.1, settle)
    )


def look(watch, times=1):
    """Look at the folder `times` times; return (name, reason) of processed files."""
    told = []
    for _ in range(times):
        if settled := watch.settled():
            watch.take(settled, lambda name, file: told.append((name, file.reason)))
    return told


def out(tmp_path):
    return results(tmp_path / "out/detections.json")


def test_each_video_is_found_once(collection, folder, watch, tmp_path):
    shutil.copy(collection.videos / "v0.mp4", folder / "first.mp4")
    (folder / "notes.txt").write_text("not looked at")
    running = watch()
    assert look(running) == [("first.mp4", "")]
    assert look(running, 3) == []
    assert out(tmp_path) == {"first": collection.found("v0")}
    shutil.copy(collection.videos / "v1.mp4", folder / "second.mp4")
    assert look(running, 2) == [("second.mp4", "")]
    assert out(tmp_path) == {"first": collection.found("v0"), "second": collection.found("v1")}
    assert json.loads((tmp_path / "out/failures.json").read_text()) == {}
    assert (tmp_path / "out/detections.csv").read_text().count("\nfirst,") == len(collection.found("v0"))


def test_a_restart_reads_nothing_again(collection, folder, watch, tmp_path, monkeypatch):
    shutil.copy(collection.videos / "v0.mp4", folder)
    look(watch())
    before = (tmp_path / "out/detections.json").read_bytes()
    monkeypatch.setattr(NewVideos, "find", lambda self, key: pytest.fail("it was read again"))
    again = watch()
    assert look(again, 2) == []
    again.results()
    assert (tmp_path / "out/detections.json").read_bytes() == before


def test_a_half_copied_file_is_read_when_it_is_whole(collection, folder, watch, tmp_path):
    whole = (collection.videos / "v2.mp4").read_bytes()
    (folder / "v2.mp4").write_bytes(whole[: len(whole) // 2])
    running = watch()
    ((name, reason),) = look(running)
    assert name == "v2.mp4"
    assert reason
    assert set(json.loads((tmp_path / "out/failures.json").read_text())) == {"v2"}
    assert look(running, 2) == []
    with (folder / "v2.mp4").open("ab") as file:
        file.write(whole[len(whole) // 2 :])
    assert look(running, 2) == [("v2.mp4", "")]
    assert out(tmp_path) == {"v2": collection.found("v2")}
    assert json.loads((tmp_path / "out/failures.json").read_text()) == {}


def test_a_file_that_ends_before_its_declared_end_waits(collection, folder, watch, tmp_path, monkeypatch):
    """Simulate an incomplete mp4 with its index first, or an incomplete Matroska file."""
    shutil.copy(collection.videos / "v0.mp4", folder)
    plain = NewVideos.features

    def cut(self, key):
        features = plain(self, key)
        for video in features.values():
            video.info["shortfall"] = 1.25
        return features

    monkeypatch.setattr(NewVideos, "features", cut)
    ((_, reason),) = look(watch())
    assert "it ends 1.250 s before its declared end" in reason
    assert out(tmp_path) == {}


def test_a_growing_file_is_left_alone(folder, watch, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("wtal.pipeline.new_videos.watch.time.monotonic", lambda: clock[0])
    running = watch(settle=3.0)
    path = folder / "v.mp4"
    for second in range(6):
        clock[0] = second
        path.write_bytes(bytes(second + 1))
        assert running.settled() == []
    clock[0] = 7.9
    assert running.settled() == []
    os.utime(path, ns=(1, 1))  # like the end of a copy that keeps the time of its source
    assert running.settled() == []
    clock[0] = 10.8
    assert running.settled() == []
    clock[0] = 11.0
    assert running.settled() == [path]


def test_a_replaced_file_replaces_its_detections(collection, folder, watch, tmp_path):
    shutil.copy(collection.videos / "v0.mp4", folder / "v.mp4")
    running = watch()
    look(running)
    shutil.copy(collection.videos / "v1.mp4", folder / "v.mp4")
    look(running, 2)
    assert out(tmp_path) == {"v": collection.found("v1")}


def test_files_of_one_name_have_long_ids(collection, folder, watch, tmp_path):
    running = watch()
    for number in (0, 1):
        (folder / str(number)).mkdir()
        shutil.copy(collection.videos / f"v{number}.mp4", folder / f"{number}/v.mp4")
        look(running, 2)
    assert out(tmp_path) == {f"{number}/v": collection.found(f"v{number}") for number in (0, 1)}


def test_a_file_that_goes_keeps_its_detections(collection, folder, watch, tmp_path):
    shutil.copy(collection.videos / "v0.mp4", folder)
    running = watch()
    settled = running.settled()
    (folder / "v0.mp4").unlink()
    running.take(settled, lambda name, file: pytest.fail("there is none"))
    shutil.copy(collection.videos / "v0.mp4", folder)
    look(running, 2)
    (folder / "v0.mp4").unlink()
    assert look(running, 2) == []
    assert out(tmp_path) == {"v0": collection.found("v0")}


def test_a_killed_process_leaves_what_was_entered(collection, folder, watch, tmp_path, monkeypatch):
    """Kill before the state is written, or between the state and the files for people."""
    shutil.copy(collection.videos / "v0.mp4", folder)
    for broken in ("_enter", "results"):
        with monkeypatch.context() as patch:
            patch.setattr(Watch, broken, lambda *arguments: sys.exit(9))
            pytest.raises(SystemExit, look, watch())
    again = watch()
    look(again)
    again.results()
    assert out(tmp_path) == {"v0": collection.found("v0")}


def test_results_of_something_else_are_not_mixed(collection, detector, folder, watch, tmp_path):
    shutil.copy(collection.videos / "v0.mp4", folder)
    look(watch())
    others = Detector(open_model(collection.run), assignments=["localize.max_detections=1"])
    with pytest.raises(UsageError, match="another model, other settings or another folder"):
        Watch(others, folder, Workspace(collection.workspace), tmp_path / "out")
    with watch().alone(), pytest.raises(UsageError, match="another process is watching"), watch().alone():
        pytest.fail("two at once")
    (tmp_path / "out/state.json").write_text("{")
    with pytest.raises(FormatError, match=r"state\.json is damaged"):
        watch()
    said = line_of("detect", collection.run, "--watch", tmp_path / "none", "--workspace", tmp_path, code=2)
    assert "takes a folder, and" in said


def test_a_processed_file_comes_back():
    file = ProcessedFile(Stamp(7, 1 << 62), (Detection(0.1, 2 / 3, "a", 1e-9),), "")
    assert ProcessedRecord.parse(json.loads(json.dumps(file.to_json()))).parsed() == file


def start(collection, folder, tmp_path):
    pace = ("--interval", "0.2", "--settle", "0.4", "--json")
    command = (
        "detect",
        collection.run,
        "--watch",
        folder,
        "--workspace",
        collection.workspace,
        "--out",
        tmp_path / "out",
    )
    return subprocess.Popen(
        [sys.executable, "-m", "wtal", *map(str, command), *pace],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell has its background jobs ignore it
    )


@pytest.mark.slow
def test_killed_under_copying_nothing_is_lost_and_nothing_double(collection, folder, tmp_path):
    """Kill its group with -9 again and again while files are copied in pieces; the last one gets SIGTERM."""
    process, told = start(collection, folder, tmp_path), []
    for number in range(5):
        content = (collection.videos / f"v{number}.mp4").read_bytes()
        with (folder / f"v{number}.mp4").open("wb") as file:
            for part in range(4):
                file.write(content[part * len(content) // 4 : (part + 1) * len(content) // 4])
                file.flush()
                time.sleep(0.1)
        if number in (1, 3):
            time.sleep(2.0 * number)
            os.killpg(process.pid, signal.SIGKILL)
            told += process.communicate()[0].splitlines()
            process = start(collection, folder, tmp_path)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not _whole(tmp_path / "out/detections.json"):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    told += process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    assert out(tmp_path) == results(collection.detections)
    found = [re.match(r'{"video": "(v\d)', line)[1] for line in told if '"failure"' not in line]
    assert len(found) == len(set(found))
    assert list((tmp_path / "out").glob(".*.tmp")) == []


def _whole(path):
    return path.exists() and len(results(path)) == 5


@pytest.mark.slow
def test_ctrl_c_ends_it(collection, folder, tmp_path):
    shutil.copy(collection.videos / "v0.mp4", folder)
    process = start(collection, folder, tmp_path)
    assert json.loads(process.stdout.readline())["video"] == "v0.mp4"
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 0
    assert call("show", tmp_path / "out/detections.json").exit_code == 0
