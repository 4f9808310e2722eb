"""A run's localization, searched on videos that are not the reported ones. Activations are made once and kept."""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from wtal.config import digest, override
from wtal.data.annotations import read_annotations
from wtal.data.dataset import match_ids
from wtal.data.files import write_atomic
from wtal.data.segments import Annotation
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WtalError
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.detect import activations_of, localize_all, localize_settings
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import EvaluateConfig, Recipe
from wtal.pipeline.train import resolve, shared_videos
from wtal.pipeline.workspace import read_run, seed_folders

Method = Literal["coordinate", "grid"]
Space = dict[str, tuple[Any, ...]]

SPACE: Space = {
    "class_threshold": (0.05, 0.1, 0.2, 0.3),
    "threshold_start": (0.0, 0.05, 0.1, 0.2),
    "threshold_stop": (0.25, 0.5, 0.75, 0.95),
    "inflation": (0.1, 0.25, 0.4),
    "outer_weight": (0.0, 0.5, 1.0),
    "video_weight": (0.0, 0.1, 0.2, 0.5),
    "nms_tiou": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
}
"""What is tried where nothing else is named; ours."""
_ROUNDS = 3
"""Through all keys, as long as the last round found anything."""


@dataclass(frozen=True)
class Tuned:
    """What came of a search: the settings that won, what was theirs before, and the mAP (fractions) of both."""

    file: Path
    subset: str
    videos: int
    tried: int
    before: dict[str, Any]
    best: dict[str, Any]
    score_before: float
    score: float
    config: LocalizeConfig


def parse_space(texts: Sequence[str]) -> Space:
    """`key=value,value` or a bare key of `SPACE` -> what to try of each; without any, all of `SPACE`.

    Raises:
        UsageError: when a bare key has no values of its own, or a key none at all.
        ConfigError: when a key or a value is refused.
    """
    space: Space = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        key = key.removeprefix("localize.")
        if not equals and key not in SPACE:
            raise UsageError(f"--over {key} needs values: --over {key}=VALUE,VALUE; without them go {', '.join(SPACE)}")
        space[key] = _listed(key, values) if equals else SPACE[key]
    for key, tried in space.items():
        for value in tried:
            LocalizeConfig.parse({key: value}, "--over")
    return space or SPACE


def _listed(key: str, text: str) -> tuple[Any, ...]:
    """Values between commas, or a TOML array of them."""
    whole = override({}, [f"{key}={text}"])[key]
    if isinstance(whole, list):
        return tuple(whole)
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"--over {key}={text} lacks a value; say --over {key}=VALUE,VALUE")
    return tuple(override({}, [f"{key}={part}"])[key] for part in parts)


def tune(
    run: Path,
    space: Space,
    method: Method = "coordinate",
    subset: str = "",
    annotations: Path | None = None,
    tious: str = "",
    assignments: Sequence[str] = (),
    out: Path | None = None,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Tuned:
    """Search localization settings by the mAP of all seeds on `subset`, and write the best as a preset.

    Without a `subset` it is the one that selected the run's step, or else the one that it trained on. `coordinate`
    goes through the keys, keeping what is better, until a round finds nothing; `grid` tries all combinations.

    Raises:
        UsageError: when a video of the subset is a reported one, or none of them has segments, or `out` is a folder.
        WtalError: when no video of the subset has features.
        ConfigError: when a setting is refused.
    """
    if out is not None and out.is_dir():
        raise UsageError(f"--out is the preset's file, {out} is a folder; say --out {out / 'tuned.toml'}")
    folders = seed_folders(run)
    own = localize_settings(folders[0], assignments)
    rules = Recipe.parse(read_run(folders[0])["recipe"], str(run)).evaluate
    subset = subset or rules.select_subset or rules.train_subset
    score, videos = _judge(folders, subset, rules, annotations, tious or rules.tiou, device, reporter)
    search = _coordinate if method == "coordinate" else _grid
    tried: dict[str, float] = {}

    def score_of(settings: Mapping[str, Any]) -> float:
        config = _laid_over(own, settings)
        key = digest(config.plain(), 16)
        if key not in tried:
            tried[key] = score(config)
        return tried[key]

    before = score_of({})
    best = search(score_of, space, own, reporter)
    config = _laid_over(own, {**best, "tuned_with_segments": True})
    file = out or run / f"tuned-{digest(config.plain())}.toml"
    made = Tuned(file, subset, videos, len(tried), _values(own, best), best, before, score_of(best), config)
    write_atomic(file, _toml(made, method).encode())
    return made


def _judge(
    folders: Sequence[Path],
    subset: str,
    rules: EvaluateConfig,
    annotations: Path | None,
    tious: str,
    device: str,
    reporter: Reporter,
) -> tuple[Callable[[LocalizeConfig], float], int]:
    """What scores a localization, the mean over seeds, and the number of videos that it looks at."""
    run = read_run(folders[0])
    dataset = read_annotations(annotations or resolve(folders[0], run["annotations"]))
    chosen = dataset.select(subset)
    reported = shared_videos(dataset, chosen, rules.test_subset)
    if annotations is not None:  # another file may call the reported videos otherwise
        known = read_annotations(resolve(folders[0], run["annotations"]))
        others = shared_videos(known, list(known.videos.values()), rules.test_subset)
        reported |= set(match_ids([video.id for video in chosen], sorted(others)))
    if reported:
        raise UsageError(
            f"{len(reported)} videos of {subset!r} are in the reported subset {rules.test_subset!r}, which chooses "
            f"nothing; name others, as --subset '{rules.train_subset}@0/4'"
        )
    store = FeatureStore.open(resolve(folders[0], run["store"]))
    present = match_ids([video.id for video in chosen], store.ids)
    truth = {video.id: video.annotations for video in chosen if video.id in present}
    if not present:
        raise WtalError(f"no video of {subset!r} has features in {store.path}")
    if not any(truth.values()):
        raise UsageError(f"subset {subset!r} has no segments to choose with")
    learned = shared_videos(dataset, chosen, rules.train_subset)
    if learned:
        reporter.say(
            f"{len(learned)} of {len(chosen)} videos of {subset!r} trained the head, which knows them better than new "
            f"ones; a fold held out of training chooses better: evaluate.train_subset='{rules.train_subset}@!0/4'"
        )
    keys = list(present.values())
    stores = [activations_of(folder, read_run(folder), store, keys, device, reporter, None) for folder in folders]
    wanted = parse_tious(tious)

    def score(config: LocalizeConfig) -> float:
        return fmean(_one(stored, present, truth, run["classes"], wanted, config) for stored in stores)

    return score, len(present)


def _one(
    stored: FeatureStore,
    present: Mapping[str, str],
    truth: Mapping[str, Sequence[Annotation]],
    classes: Sequence[str],
    tious: Sequence[float],
    config: LocalizeConfig,
) -> float:
    """The mAP of one seed."""
    found = localize_all(stored, list(present.values()), classes, config, {})
    return evaluate_detections(truth, {name: found[key] for name, key in present.items()}, tious).average


def _coordinate(
    score: Callable[[Mapping[str, Any]], float], space: Space, own: LocalizeConfig, reporter: Reporter
) -> dict[str, Any]:
    """One key after the other, what is better is kept; rounds until one finds nothing."""
    best: dict[str, Any] = {}
    highest = score(best)
    for number in range(_ROUNDS):
        before = highest
        with reporter.task(f"tune round {number + 1}", sum(map(len, space.values())), "setting") as task:
            for key, value in ((key, value) for key, values in space.items() for value in values):
                made = score({**best, key: value})
                if made > highest:
                    best, highest = {**best, key: value}, made
                task.advance(1, f"mAP {100 * highest:.2f}")
        if highest == before:
            break
    return best


def _grid(
    score: Callable[[Mapping[str, Any]], float], space: Space, own: LocalizeConfig, reporter: Reporter
) -> dict[str, Any]:
    """All combinations; the first of equals, and nothing where nothing is better than what was."""
    best: dict[str, Any] = {}
    highest = score(best)
    with reporter.task("tune", math.prod(map(len, space.values())), "setting") as task:
        for values in itertools.product(*space.values()):
            settings = dict(zip(space, values, strict=True))
            made = score(settings)
            if made > highest:
                best, highest = settings, made
            task.advance(1, f"mAP {100 * highest:.2f}")
    return best


def _laid_over(own: LocalizeConfig, settings: Mapping[str, Any]) -> LocalizeConfig:
    """The settings over the run's own; with a preset among them, over that."""
    return LocalizeConfig.parse(settings if "preset" in settings else {**own.plain(), **settings}, "tune")


def _values(own: LocalizeConfig, best: Mapping[str, Any]) -> dict[str, Any]:
    return {key: own.plain().get(key, "") for key in best}


def _toml(made: Tuned, method: Method) -> str:
    """A preset: all that is not a default, with where it comes from."""
    defaults = LocalizeConfig().plain()
    kept = {key: value for key, value in made.config.plain().items() if value != defaults[key]}
    source = (
        f"wtal tune, {method} search over {made.tried} settings: mAP {100 * made.score_before:.2f} -> "
        f"{100 * made.score:.2f} percent on {made.videos} videos of {made.subset}; tuned with segments"
    )
    head = [f"title = {json.dumps('Localization tuned on ' + made.subset)}", f"source = {json.dumps(source)}"]
    return "\n".join([*head, "", "[localize]", *(f"{key} = {_value(value)}" for key, value in kept.items()), ""])


def _value(value: Any) -> str:
    """A JSON type as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
