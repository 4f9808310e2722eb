"""Extraction: one call over good and bad files, interrupted, repeated, twice at once."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.reference import SHARED, needs_shared
from tests.support.videos import constant, write_video
from wtal.cli import main
from wtal.data.store import FeatureStore


def wtal(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + str(result.exception)
    return result


@pytest.fixture
def folder(tmp_path):
    """Four small videos of 10, 35, 50 and 1 frames at 25 fps."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, count in (("short", 10), ("middle", 35), ("long", 50), ("still", 1)):
        write_video(videos / f"{name}.mp4", constant(25, count))
    return videos


def files_of(store):
    return {p.name: p.read_bytes() for p in sorted(store.iterdir()) if p.is_file()}


def test_a_folder_of_good_and_bad_files(folder, tmp_path):
    (folder / "empty.mp4").touch()
    (folder / "text.mkv").write_text("no video at all")
    (folder / "notes.txt").write_text("not looked at")
    result = wtal("extract", folder, "--workspace", tmp_path / "ws", code=3)
    store = FeatureStore.open(result.stdout.strip())
    assert store.ids == ("long", "middle", "short", "still")
    stride = store.grid("long").stride
    for name, count in (("short", 10), ("middle", 35), ("long", 50), ("still", 1)):
        assert store.grid(name).frames == count
        assert store.grid(name).num_snippets == -(-count // stride)
        for features in store[name].streams.values():
            assert features.shape[0] == store.grid(name).num_snippets
            assert np.isfinite(features).all()
    assert set(store.failures) == {"empty", "text"}
    assert "empty" in store.failures["empty"]
    assert "2 of 6 videos failed" in result.stderr
    shown = json.loads(wtal("show", store.path, "--json").stdout)
    assert shown["num_videos"] == 4
    assert set(shown["failures"]) == {"empty", "text"}


def test_a_second_call_adds_what_is_new_and_leaves_the_rest(folder, tmp_path):
    first = Path(wtal("extract", folder / "long.mp4", "--workspace", tmp_path).stdout.strip())
    before = files_of(first)
    second = Path(wtal("extract", folder, "--workspace", tmp_path).stdout.strip())
    assert first == second
    assert len(FeatureStore.open(second)) == 4
    assert all(files_of(second)[name] == content for name, content in before.items() if name.endswith(".npy"))
    again = files_of(second)
    wtal("extract", folder, "--workspace", tmp_path)
    assert files_of(second) == again


def test_a_mended_video_leaves_the_failures(folder, tmp_path):
    good = (folder / "long.mp4").read_bytes()
    (folder / "long.mp4").write_bytes(good[:300])
    store = Path(wtal("extract", folder, "--workspace", tmp_path, code=3).stdout.strip())
    assert set(FeatureStore.open(store).failures) == {"long"}
    (folder / "long.mp4").write_bytes(good)
    wtal("extract", folder, "--workspace", tmp_path)
    assert FeatureStore.open(store).failures == {}
    assert "long" in FeatureStore.open(store)


def test_another_file_under_a_known_id_is_refused(folder, tmp_path):
    wtal("extract", folder / "long.mp4", "--workspace", tmp_path / "ws")
    other = tmp_path / "other"
    other.mkdir()
    write_video(other / "long.mp4", constant(25, 20))
    result = wtal("extract", other / "long.mp4", "--workspace", tmp_path / "ws", code=3)
    assert "another file under this id" in result.stderr


def test_other_settings_make_another_store(folder, tmp_path):
    stores = {
        wtal("extract", folder / "short.mp4", "--workspace", tmp_path, *extra).stdout.strip()
        for extra in (
            [],
            ["--tail", "drop"],
            ["--fps", "30"],
            ["--flow", "dis:fast"],
            ["--streams", "rgb"],
            ["--stride", "5"],
        )
    }
    assert len(stores) == 6
    wtal("extract", folder / "short.mp4", "--tail", "drop", "--out", sorted(stores)[0], code=2)


def test_the_papers_drop_the_tail(folder, tmp_path):
    call = ("extract", folder, "--workspace", tmp_path, "--tail", "drop", "--stride", "16")
    store = FeatureStore.open(wtal(*call).stdout.strip())
    assert [store.grid(name).num_snippets for name in ("long", "middle", "short", "still")] == [3, 2, 0, 0]


@pytest.mark.slow
def test_jobs_do_not_change_a_bit(folder, tmp_path):
    one = wtal("extract", folder, "--workspace", tmp_path / "one").stdout.strip()
    two = wtal("extract", folder, "--workspace", tmp_path / "two", "--jobs", "2").stdout.strip()
    assert files_of(Path(one)) == files_of(Path(two))


START = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import wtal.extractors.execution.extractor
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.extraction.extract import extract
from wtal.pipeline.workspace import Workspace

def start(videos, out):
    child = os.fork()
    if child == 0:
        extract([Path(videos)], ExtractConfig(), Workspace(Path(out).parent), out=Path(out))
        os._exit(0)
    return child

videos, whole, cut = sys.argv[1:]
begun = time.monotonic()
assert os.waitpid(start(videos, whole), 0)[1] == 0
length = time.monotonic() - begun
"""

KILLED = """
for kill in range(4):
    child = start(videos, cut)
    time.sleep(random.uniform(0, length))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
assert os.waitpid(start(videos, cut), 0)[1] == 0
"""

TOGETHER = """
children = [start(videos, cut), start(videos, cut)]
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def whole_and_cut(script, folder, tmp_path):
    """Two stores of the same videos: one by an undisturbed call, the other by `script`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", START + script, str(folder), str(tmp_path / "whole"), str(tmp_path / "cut")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cut" / "parts").exists()
    return tmp_path / "whole", tmp_path / "cut"


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_no_byte(folder, tmp_path):
    whole, cut = whole_and_cut(KILLED, folder, tmp_path)
    assert files_of(cut) == files_of(whole)


@pytest.mark.slow
def test_two_at_once_lose_nothing_and_double_nothing(folder, tmp_path):
    """The order of workers decides on the shard of a video, not on its content."""
    left, right = map(FeatureStore.open, whole_and_cut(TOGETHER, folder, tmp_path))
    assert left.ids == right.ids == ("long", "middle", "short", "still")
    assert right.failures == {}
    for name in left.ids:
        assert left.info(name) == right.info(name)
        for stream, features in left[name].streams.items():
            assert features.tobytes() == right[name].streams[stream].tobytes()
    for stream in left.dims:
        rows = [sum(len(np.load(file)) for file in store.path.glob(f"{stream}*.npy")) for store in (left, right)]
        assert rows[0] == rows[1] == sum(left.grid(name).num_snippets for name in left.ids)


def test_a_reader_that_hangs_is_named_and_the_batch_goes_on(folder, tmp_path):
    """Allow a microsecond, too short for any reader: each video fails in turn, none stops the call."""
    result = wtal("extract", folder, "--workspace", tmp_path, "--time-limit", "0.000001", code=3)
    store = FeatureStore.open(result.stdout.strip())
    assert set(store.failures) == {"long", "middle", "short", "still"}
    assert all("gave no frame for" in reason for reason in store.failures.values())
    wtal("extract", folder, "--workspace", tmp_path)
    assert FeatureStore.open(store.path).failures == {}


def test_a_broken_link_and_a_lone_sound_track_are_named_as_failures(folder, tmp_path):
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (folder / "short.mp4.audio.mp3").write_bytes(b"ID3")
    (folder / "short.mp4.part").write_bytes(b"half a download")
    result = wtal("extract", folder, "--workspace", tmp_path / "ws", code=3)
    failures = FeatureStore.open(result.stdout.strip()).failures
    assert set(failures) == {"gone", "short.mp4.audio"}
    assert failures["gone"] == "the file does not exist"


def test_a_name_that_is_not_utf_8_is_extracted_shown_and_listed(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "good.mp4", constant(25, 10)).rename(videos / os.fsdecode(b"bad\xff.mp4"))
    store = wtal("extract", videos, "--workspace", tmp_path / "ws").stdout.strip()
    assert FeatureStore.open(store).ids == ("bad\ufffd",)
    assert "bad\ufffd" in wtal("show", store, "--json").stdout
    listed = wtal("extract", videos, "--workspace", tmp_path / "ws", "--dry-run", "--json").stdout
    assert [video["id"] for video in json.loads(listed)["videos"]] == ["bad\ufffd"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--backbone", "i3dd"], 2, "did you mean 'i3d'"),
        (["--flow", "tvl2"], 2, "did you mean 'tvl1'"),
        (["--reader", "pyavv"], 2, "did you mean 'pyav'"),
        (["--streams", "rgb,depth"], 2, "no stream 'depth'"),
        (["--fps", "zero"], 2, "wanted a number or fraction above 0"),
        (["--weights", "some.pt"], 2, "motion"),
        (
            ["--device", "banana"],
            2,
            "--device takes auto, cpu, cuda or cuda:N, or cuda:0,cuda:1 and so on, got 'banana'",
        ),
        (["--backbone", "i3d", "--weights", "absent.pt"], 2, "absent.pt"),
        (["--backbone", "i3d", "--weights", "random:x"], 2, "random:SEED"),
    ],
)
def test_wrong_words_are_refused_in_one_line(folder, tmp_path, arguments, code, said):
    result = wtal("extract", folder, "--workspace", tmp_path, *arguments, code=code)
    assert said in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("wtal:")]) == 1


def test_random_weights_stamp_the_store(folder, tmp_path):
    call = ("extract", "--backbone", "i3d", "--streams", "rgb", "--weights", "random:0", "--workspace", tmp_path)
    path = wtal(*call, folder / "short.mp4").stdout.strip()
    assert "random" in Path(path).name
    assert "random" in json.dumps(FeatureStore.open(path).identity)
    assert "random" in wtal("show", path).stdout


@pytest.mark.slow
@needs_shared
def test_every_odd_file_in_one_call(tmp_path):
    """Extract ActivityNet clips, all odd files and an empty one: failures are named, others have the right snippets."""
    odd = SHARED / "data" / "odd"
    clips = sorted((SHARED / "data" / "activitynet").glob("v_*.mp4"))
    store = FeatureStore.open(wtal("extract", odd, *clips, "--workspace", tmp_path, code=3).stdout.strip())
    assert set(store.failures) == {"empty", "nasa_13013.mp4.audio"}
    names = {p.stem for p in odd.iterdir() if not p.name.startswith("LICENSE")} | {p.stem for p in clips}
    assert set(store.ids) | set(store.failures) == names
    # Frames at 25 fps, from what ffprobe-like counting of the shown frames gives: N = round(25 * shown seconds).
    expected = {"testsrc2_mpeg4": 1, "v_GGSY1Qvo990": round(Fraction(355 * 25 * 100, 1962)), "v_ZNVhz7ctTq0": 350}
    for name, frames in expected.items():
        assert abs(store.grid(name).frames - frames) <= 1, name
    for name in store.ids:
        grid = store.grid(name)
        assert grid.num_snippets == -(-grid.frames // grid.stride)
        for features in store[name].streams.values():
            assert len(features) == grid.num_snippets
            assert np.isfinite(features).all()
