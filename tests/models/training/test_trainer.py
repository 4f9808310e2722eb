"""Trainer: interrupted at any moment, it resumes to the same numbers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.support.planted import CLASSES, STREAMS, WIDTH, planted_videos
from tests.support.reference import REPOSITORY
from wtal.errors import ConfigError, WeightsError, WtalError
from wtal.models import create_head
from wtal.models.training.checkpoint import Checkpoint, load_stage, load_trained
from wtal.models.training.config import TrainConfig
from wtal.models.training.inputs import LabelledVideo, Scaler, perturb_indices
from wtal.models.training.trainer import Trainer

BASE = {"steps": 24, "batch_size": 4, "learning_rate": 1e-3, "sample_length": 30, "checkpoint_every": 4, "log_every": 2}


def videos():
    return [LabelledVideo(v.id, lambda v=v: v.streams, v.labels) for v in planted_videos(9, seed=4)]


def head(**settings):
    torch.manual_seed(0)
    return create_head("basnet", len(CLASSES), dict.fromkeys(STREAMS, WIDTH), width=16, filter_width=8, **settings)


def train(folder, stop_after=None, **settings):
    trainer = Trainer(head(), videos(), TrainConfig(**{**BASE, **settings}), 3, folder)

    def on_step(progress):
        if progress.step == stop_after:
            raise KeyboardInterrupt

    return trainer.run(on_step)


def same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        assert torch.equal(left[key], right[key]), key


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampling": "full", "scaling": "standard", "schedule": "cosine", "noise": 0.1},
        {"optimizer": "adamw", "accumulate": 2, "clip_norm": 1.0, "average_from": 0.5, "scaling": "l2"},
        {"average_from": 0.0, "average_decay": 0.8},
        {"precision": "bf16"},
    ],
    ids=["paper", "collection", "averaged", "ema", "bf16"],
)
def test_a_stopped_run_ends_like_an_uninterrupted_one(tmp_path, settings):
    whole = train(tmp_path / "whole", **settings)
    for stop in (3, 9, 18):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", stop_after=stop, **settings)
    resumed = train(tmp_path / "cut", **settings)
    same(whole.head.state_dict(), resumed.head.state_dict())
    left, right = Checkpoint.newest(tmp_path / "whole"), Checkpoint.newest(tmp_path / "cut")
    assert left.step == right.step == 24
    for key, state in left.optimizer["state"].items():
        same(state, right.optimizer["state"][key])
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (folder / "log.jsonl").open()]
        for folder in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == list(range(2, 25, 2))


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
import torch._dynamo  # an optimizer loads it on its first step, which takes seconds
torch.set_num_threads(1)
from tests.models.training.test_trainer import newest_checkpoint_name, train

def start(folder):
    child = os.fork()  # nothing has run in this process that a fork could harm, and torch need not be loaded again
    if child == 0:
        train(folder, steps=60, checkpoint_every=1)
        os._exit(0)
    return child

whole, cut = map(Path, sys.argv[1:])
assert os.waitpid(start(whole), 0)[1] == 0
kills = 0
while kills < 5:
    child, before = start(cut), newest_checkpoint_name(cut)
    while newest_checkpoint_name(cut) == before and os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), f"the run ended after {kills} kills"
    kills += 1
assert os.waitpid(start(cut), 0)[1] == 0
print(kills)
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(tmp_path):
    """Kill the process again and again at any point, also while it writes a checkpoint."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path / "whole"), str(tmp_path / "cut")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5"
    left, right = Checkpoint.newest(tmp_path / "whole"), Checkpoint.newest(tmp_path / "cut")
    same(left.head, right.head)
    for key, state in left.optimizer["state"].items():
        same(state, right.optimizer["state"][key])
    assert [p.name for p in (tmp_path / "cut").glob("checkpoint-*")] == ["checkpoint-00000060.pt"]


def newest_checkpoint_name(folder):
    return max((p.name for p in folder.glob("checkpoint-*.pt")), default="")


@pytest.mark.parametrize("sampling", ["full", "perturb"])
def test_accumulation_is_the_mean_over_all_videos(tmp_path, sampling):
    """Train on seven videos at once, or in parts of three, two and two: the same terms and the same gradient."""

    def one_step(accumulate):
        settings = {**BASE, "steps": 1, "batch_size": 7, "sampling": sampling, "log_every": 1, "accumulate": accumulate}
        folder = tmp_path / str(accumulate)
        trained = Trainer(head(dropout=0.0), videos(), TrainConfig(**settings), 3, folder).run()
        gradients = {name: parameter.grad for name, parameter in trained.head.named_parameters()}
        return gradients, json.loads((folder / "log.jsonl").read_text())

    (whole, terms), (parts, terms_of_parts) = one_step(1), one_step(3)
    for name, gradient in whole.items():
        assert gradient.abs().max() > 0
        scale = gradient.abs().max().item()
        torch.testing.assert_close(parts[name], gradient, rtol=1e-5, atol=1e-5 * scale)
    for name in ("loss", "loss_base", "loss_supp", "loss_norm"):
        assert terms_of_parts[name] == pytest.approx(terms[name], rel=1e-5), name


@pytest.mark.parametrize("betas", [[0.9, 1.0], [-0.1, 0.9], [2, 0.9]])
def test_decays_outside_0_to_1_are_refused_in_one_line(betas):
    with pytest.raises(
        ConfigError, match=r"^train: betas\[[01]\]: wanted a number of at least 0 and below 1, got [-0-9.]+$"
    ):
        TrainConfig.parse({"betas": betas}, "train")


def test_seeds_differ(tmp_path):
    first = Trainer(head(), videos(), TrainConfig(**BASE), 0, tmp_path / "0").run()
    second = Trainer(head(), videos(), TrainConfig(**BASE), 1, tmp_path / "1").run()
    assert any(not torch.equal(a, b) for a, b in zip(first.head.parameters(), second.head.parameters(), strict=True))


def test_selection_keeps_the_best_step_and_survives_a_stop(tmp_path):
    scores = {8: 0.2, 16: 0.9, 24: 0.5}

    def select_for(trainer_box):
        return lambda head, scaler: scores[trainer_box[0].step]

    def run(folder, stop_after=None):
        box = []
        trainer = Trainer(head(), videos(), TrainConfig(**BASE, select_every=8), 3, folder, select=select_for(box))
        box.append(trainer)

        def on_step(progress):
            if progress.step == stop_after:
                raise KeyboardInterrupt

        return trainer.run(on_step)

    whole = run(tmp_path / "whole")
    assert (whole.step, whole.score) == (16, 0.9)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=21)
    same(whole.head.state_dict(), run(tmp_path / "cut").head.state_dict())
    same(whole.head.state_dict(), load_trained(head(), tmp_path / "cut").head.state_dict())


def parameters_of_each_step(folder, **settings):
    """Parameters after each step, and at the end of the run."""
    trainer = Trainer(head(), videos(), TrainConfig(**{**BASE, **settings}), 3, folder)
    seen = []
    trained = trainer.run(lambda _: seen.append({k: v.clone() for k, v in trainer.head.state_dict().items()}))
    return seen, trained.head.state_dict()


def test_an_exponential_average_is_that_by_hand(tmp_path):
    """Average by definition: the mean of the first four steps, then a quarter of each newer step."""
    seen, ended = parameters_of_each_step(tmp_path, steps=7, average_from=0.0, average_decay=0.75)
    for name, value in ended.items():
        wanted = sum(step[name].double() for step in seen[:4]) / 4
        for step in seen[4:]:
            wanted = 0.75 * wanted + 0.25 * step[name].double()
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-7)
    same(ended, load_trained(head(), tmp_path).head.state_dict())


def test_without_decay_the_average_is_the_mean(tmp_path):
    seen, ended = parameters_of_each_step(tmp_path, steps=8, average_from=0.5)
    for name, value in ended.items():
        wanted = sum(step[name].double() for step in seen[4:]) / 4
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-7)


def test_what_is_averaged_is_what_is_selected(tmp_path):
    """Score the average, continue from the head's own parameters, and keep the best average."""
    scored = []

    def select(head, scaler):
        scored.append({k: v.clone() for k, v in head.state_dict().items()})
        return -float(len(scored))

    settings = {**BASE, "steps": 6, "select_every": 3, "average_from": 0.0, "average_decay": 0.5}
    trained = Trainer(head(), videos(), TrainConfig(**settings), 3, tmp_path / "selected", select=select).run()
    seen, ended = parameters_of_each_step(tmp_path / "plain", steps=6, average_from=0.0, average_decay=0.5)
    assert trained.step == 3
    for name, value in trained.head.state_dict().items():
        wanted = 0.25 * seen[0][name] + 0.25 * seen[1][name] + 0.5 * seen[2][name]
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-7)
    same(scored[1], ended)


def test_runs_from_before_the_decay_keep_their_identity():
    assert "average_decay" not in TrainConfig().plain()
    assert TrainConfig(average_decay=0.9).plain()["average_decay"] == 0.9
    assert TrainConfig.parse(TrainConfig(average_decay=0.9).plain()).average_decay == 0.9


def test_heads_that_average_their_stages_are_not_averaged_again(tmp_path):
    torch.manual_seed(0)
    staged = create_head("tscn", len(CLASSES), dict.fromkeys(STREAMS, WIDTH), width=8)
    with pytest.raises(ConfigError, match=r"averages them itself; set train\.average_from to 1"):
        Trainer(staged, videos(), TrainConfig(**BASE, average_from=0.5), 3, tmp_path)


def test_a_folder_of_another_run_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(WtalError, match="another configuration"):
        train(tmp_path, learning_rate=5e-4)


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(tmp_path)
    file = next(tmp_path.glob("checkpoint-*.pt"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"checkpoint-.*is damaged"):
        Checkpoint.newest(tmp_path)


@pytest.mark.parametrize("key", ["steps", "average", "best", "scaler"])
def test_a_checkpoint_that_lacks_a_key_is_named_with_it(tmp_path, key):
    path = Checkpoint.finished(head()).write(tmp_path)
    state = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in state.items() if name != key}, path)
    with pytest.raises(WeightsError, match=rf"checkpoint-00000000\.pt .*lacks {key}; ") as caught:
        Checkpoint.newest(tmp_path)
    assert "\n" not in str(caught.value)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="lacks step, steps, "):
        Checkpoint.newest(tmp_path)


def test_keys_that_a_checkpoint_does_not_know_are_passed_over(tmp_path):
    path = Checkpoint.finished(head()).write(tmp_path)
    torch.save({**torch.load(path, weights_only=True), "mood": "good"}, path)
    assert Checkpoint.newest(tmp_path).steps == 0
    same(load_trained(head(), tmp_path).head.state_dict(), torch.load(path, weights_only=True)["head"])


def test_a_stage_that_lacks_a_key_is_named_with_it(tmp_path):
    path = tmp_path / "stage-0.pt"
    torch.save({"step": 1, "scaler": {}}, path)
    with pytest.raises(WeightsError, match=r"stage-0\.pt .*lacks head; "):
        load_stage(head(), tmp_path, 0)


def test_an_unfinished_run_is_not_used(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_after=9)
    with pytest.raises(WtalError, match="step 8 of 24"):
        load_trained(head(), tmp_path)


def test_no_videos_and_a_loss_that_explodes(tmp_path):
    with pytest.raises(WtalError, match="no training video"):
        Trainer(head(), [], TrainConfig(**BASE), 0, tmp_path)
    with pytest.raises(WtalError, match=r"lower train\.learning_rate"):
        train(tmp_path, learning_rate=1e30)


def test_standard_scaling_uses_the_training_videos_alone():
    scaler = Scaler.fit("standard", videos())
    everything = np.concatenate([scaler(v.load())["rgb"].numpy() for v in videos()])
    np.testing.assert_allclose(everything.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(everything.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize(("length", "wanted"), [(100, 30), (30, 30), (7, 30), (1, 5)])
def test_perturbed_samples_take_one_of_each_stratum(length, wanted):
    chosen = perturb_indices(length, wanted, np.random.default_rng(0))
    assert len(chosen) == wanted
    assert (np.diff(chosen) >= 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < length
    borders = np.arange(wanted + 1) * length / wanted
    assert ((chosen >= np.floor(borders[:-1])) & (chosen <= borders[1:])).all()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu(tmp_path, cuda, precision):
    trained = Trainer(head(), videos(), TrainConfig(**BASE, precision=precision), 0, tmp_path, cuda).run()
    assert trained.step == 24
    assert all(torch.isfinite(p).all() for p in trained.head.parameters())
