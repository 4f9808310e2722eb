"""Published features and authors' checkpoints into a workspace."""

import json
import pickle

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.support.planted import CLASSES, WIDTH, planted_videos
from wtal.cli import main
from wtal.data.store import FeatureStore
from wtal.models import create_head

RATE = 16 / 25


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def objects(rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


@pytest.fixture
def published(tmp_path):
    """Write planted videos in W-TALC's published form: `features.npy` and a folder of annotation arrays."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    videos = planted_videos(6, seed=0, seconds_per_snippet=RATE)
    lists = {
        "labels_all": [[CLASSES[i] for i in np.flatnonzero(video.labels)] for video in videos],
        "labels": [[one.label for one in video.annotations] for video in videos],
        "segments": [[[one.start, one.end] for one in video.annotations] for video in videos],
    }
    for name, rows in lists.items():
        np.save(folder / f"{name}.npy", objects(rows), allow_pickle=True)
    np.save(folder / "videoname.npy", np.array([video.id.encode() for video in videos]))
    np.save(folder / "subset.npy", np.array([b"validation"] * 4 + [b"test"] * 2))
    np.save(folder / "classlist.npy", np.array([name.encode() for name in CLASSES]))
    joint = [np.concatenate([video.streams["rgb"], video.streams["flow"]], axis=1) for video in videos]
    np.save(tmp_path / "features.npy", objects(joint), allow_pickle=True)
    return tmp_path, videos


def import_features(place, *arguments):
    return call(
        "import-features",
        place / "features.npy",
        "--annotations",
        place / "annotations",
        "--workspace",
        place / "workspace",
        *arguments,
    )


def test_joint_features_become_a_store_with_their_rate(published):
    place, videos = published
    result = import_features(place)
    assert result.exit_code == 0, result.output
    store = FeatureStore.open(result.stdout.strip())
    assert set(store.ids) == {video.id for video in videos}
    for video in videos:
        found = store[video.id]
        for stream, values in video.streams.items():
            assert np.array_equal(found.streams[stream], values)
        grid = found.grid
        assert grid.num_snippets == len(video.streams["rgb"])
        assert grid.to_segment(3, 4).start == pytest.approx(3 * RATE)
        assert grid.to_segment(3, 4).end == pytest.approx(5 * RATE)
    again = import_features(place)
    assert again.stdout == result.stdout


def test_columns_and_rates_can_be_named(published):
    place, _ = published
    result = import_features(place, "--dims", f"rgb=10,flow={2 * WIDTH - 10}", "--fps", "30", "--stride", "4")
    store = FeatureStore.open(result.stdout.strip())
    assert store.dims == {"rgb": 10, "flow": 2 * WIDTH - 10}
    assert store.grid(store.ids[0]).to_segment(0, 0).end == pytest.approx(4 / 30)


def test_what_cannot_be_used_is_named_and_the_rest_imported(published):
    place, videos = published
    joint = np.load(place / "features.npy", allow_pickle=True)
    joint[1] = np.zeros((0, 2 * WIDTH), np.float32)
    joint[2] = np.full((3, 2 * WIDTH), np.nan)
    np.save(place / "features.npy", joint, allow_pickle=True)
    result = import_features(place)
    assert result.exit_code == 3, result.output
    store = FeatureStore.open(result.stdout.strip())
    assert len(store.ids) == 4
    failures = json.loads((store.path / "failures.json").read_text())
    assert "no row" in failures[videos[1].id]
    assert "not finite" in failures[videos[2].id]


class Evil:
    def __reduce__(self):
        return print, ("code was run",)


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (lambda joint: joint[:5], (), "has 5 videos"),
        (lambda joint: objects([np.zeros(3)] * 6), (), "wanted (T, D)"),
        (lambda joint: objects([Evil()] * 6), (), "could run code"),
        (lambda joint: joint, ("--dims", "rgb=3"), "64 columns"),
        (lambda joint: joint, ("--dims", "rgb"), "NAME=WIDTH"),
        (lambda joint: joint, ("--fps", "0"), "a number or fraction above 0"),
    ],
)
def test_what_is_no_joint_file_is_refused(published, capsys, change, arguments, words):
    place, _ = published
    changed = change(np.load(place / "features.npy", allow_pickle=True))
    with (place / "features.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(changed))
        pickle.dump(changed, file, protocol=2)
    result = import_features(place, *arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert "code was run" not in result.output


def checkpoint(place, width=16, dim=2 * WIDTH, classes=3):
    torch.manual_seed(0)
    head = create_head("basnet", classes, {"both": dim}, width=width, filter_width=8)
    names = {
        "filter_in": "filter_module.conv_1.0",
        "filter_out": "filter_module.conv_2.0",
        "cas_in": "cas_module.conv_1.0",
        "cas_mid": "cas_module.conv_2.0",
        "cas_out": "cas_module.conv_3.0",
    }
    state = {}
    for key, value in head.state_dict().items():
        layer, _, kind = key.rpartition(".")
        state[f"module.{names[layer]}.{kind}"] = value
    path = place / "basnet.pt"
    torch.save({"state_dict": state}, path)
    return path, head


def import_checkpoint(place, *arguments):
    return call(
        "import-checkpoint", *arguments, "--annotations", place / "annotations", "--workspace", place / "workspace"
    )


def test_an_authors_checkpoint_becomes_a_run(published):
    place, _ = published
    import_features(place)
    path, _ = checkpoint(place)
    result = import_checkpoint(place, "--head", "basnet", path)
    assert result.exit_code == 0, result.output
    run = result.stdout.strip()
    described = json.loads((place / run / "run.json").read_text())
    assert described["recipe"]["head"]["authors"] is True
    assert described["recipe"]["head"]["width"] == 16
    assert described["recipe"]["evaluate"]["test_subset"] == "test"
    assert call("detect", run).exit_code == 0
    judged = call("evaluate", run, "--json")
    assert judged.exit_code == 0, judged.output
    assert 0 <= json.loads(judged.stdout)["average"] <= 1
    assert import_checkpoint(place, "--head", "basnet", path).stdout.strip() == run


def test_what_tensors_cannot_tell_is_the_recipes(published):
    place, _ = published
    import_features(place)
    keys = {"mu": (4, 16), "ac_center": (4, 16), "fg_center": (1, 16)}
    keys |= {"feature_embedding.0.weight": (16, 2 * WIDTH), "feature_embedding.0.bias": (16,)}
    torch.save({key: torch.rand(shape) for key, shape in keys.items()}, place / "rskp.pt")
    for recipe, scale, share in (("activitynet-1.3/rskp", 10.0, 0.8), ("thumos14/rskp", 20.0, 0.6)):
        result = import_checkpoint(place, "--head", "rskp", place / "rskp.pt", "--recipe", recipe)
        assert result.exit_code == 0, result.output
        head = json.loads((place / result.stdout.strip() / "run.json").read_text())["recipe"]["head"]
        assert (head["scale"], head["test_main"]) == (scale, share)
        assert (head["width"], head["n_mu"]) == (16, 4)


def test_a_model_a_stream_takes_a_file_a_stream(published):
    place, _ = published
    import_features(place)
    files = []
    for stream in ("rgb", "flow"):
        torch.manual_seed(len(stream))
        head = create_head("facnet", 3, {stream: WIDTH}, width=WIDTH)
        keys = {
            "actions": "ac_center",
            "foreground": "fg_center",
            "first.weight": "feature_embedding.process.0.weight",
            "first.bias": "feature_embedding.process.0.bias",
            "second.weight": "feature_embedding.process.3.weight",
            "second.bias": "feature_embedding.process.3.bias",
        }
        path = place / f"{stream}.pt"
        torch.save({keys[name]: value for name, value in head.state_dict().items()}, path)
        files += ["--stream", f"{stream}={path}"]
    result = import_checkpoint(place, "--head", "facnet", *files)
    assert result.exit_code == 0, result.output
    run = result.stdout.strip()
    for streams in ("fused", "union", "rgb"):
        assert call("detect", run, "--streams", streams).exit_code == 0
        assert call("evaluate", run, "--streams", streams).exit_code == 0
    alone = import_checkpoint(place, "--head", "facnet", files[1].partition("=")[2])
    assert alone.exit_code == 2
    assert "name one file per stream" in alone.stderr


@pytest.mark.parametrize(
    ("made", "head", "words"),
    [
        ({"dim": 10}, "basnet", "does not fit the features"),
        ({"classes": 4}, "basnet", "cas_module.conv_3.0.weight is (5,"),
        ({}, "rskp", "not a checkpoint of RSKP"),
        ({}, "tscn", "no authors' checkpoint"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(published, made, head, words):
    place, _ = published
    import_features(place)
    path, _ = checkpoint(place, **made)
    result = import_checkpoint(place, "--head", head, path)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not list((place / "workspace").glob("runs/*/seed-*/finished.json"))


def test_without_features_and_labels_a_checkpoint_is_checked(published):
    place, _ = published
    path, head = checkpoint(place)
    empty = ("--workspace", place / "empty")
    result = call("import-checkpoint", "--head", "basnet", path, *empty, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["run"], told["head"], told["classes"]) == (None, "basnet", 3)
    assert told["parameters"] == sum(parameter.numel() for parameter in head.parameters())
    assert told["settings"]["width"] == 16
    said = call("import-checkpoint", "--head", "basnet", path, *empty).stdout
    assert said.startswith("basnet: 3 classes, ")
    assert "--store and --annotations" in said
    state = torch.load(path)["state_dict"]
    torch.save(state | {"more": torch.zeros(2)}, path)
    refused = call("import-checkpoint", "--head", "basnet", path, *empty)
    assert refused.exit_code == 1
    assert refused.stderr == "wtal: not a checkpoint of BaS-Net: unknown more\n"
    assert call("import-checkpoint", "--head", "tscn", path, *empty).exit_code == 1
    assert "no feature store" in import_checkpoint(place, "--head", "basnet", path).stderr


def test_a_checkpoint_that_holds_code_is_not_run(published):
    place, _ = published
    import_features(place)
    torch.save({"state_dict": Evil()}, place / "evil.pt")
    result = import_checkpoint(place, "--head", "basnet", place / "evil.pt")
    assert result.exit_code == 1
    assert "run its code" in result.stderr
    assert "code was run" not in result.output
