"""Search a run's localization settings on videos other than the reported ones. Activations are computed once."""

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
from wtal.data.files import write_atomic
from wtal.data.names import match_ids
from wtal.data.segments import Annotation
from wtal.data.store import FeatureStore
from wtal.errors import ConfigError, OverrideError, UsageError, WtalError
from wtal.eval import evaluate_detections
from wtal.eval.thresholds import parse_tious
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.activations import activations_of, localize_all
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import EvaluateConfig
from wtal.pipeline.runs import Run, open_runs
from wtal.pipeline.train import shared_videos
from wtal.registry import suggest

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
    "soft_sigma": (0.1, 0.2, 0.3, 0.5, 0.75),
}
"""Values tried by default; chosen by us."""
_ROUNDS = 3
"""Maximum number of rounds through all keys, ending earlier when one improves nothing."""


@dataclass(frozen=True)
class Tuned:
    """Outcome of a search: the winning settings, their previous values, and the mAP (fractions) of both."""

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
    """Parse `key=value,value`, or a bare key of `SPACE`, as values to try; without any, return all of `SPACE`.

    Raises:
        UsageError: when a key does not exist, a bare key has no default values, a key has none at all, or a value is
            refused.
    """
    space: Space = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        key = key.removeprefix("localize.")
        if key not in LocalizeConfig.model_fields:
            raise UsageError(f"--over: localization has no key {key!r}; {suggest(key, LocalizeConfig.model_fields)}")
        if not equals and key not in SPACE:
            raise UsageError(
                f"--over {key} needs values: --over {key}=VALUE,VALUE; values are optional for {', '.join(SPACE)}"
            )
        space[key] = _listed(key, values) if equals else SPACE[key]
    for key, tried in space.items():
        for value in tried:
            try:
                LocalizeConfig.parse({key: value}, "--over")
            except ConfigError as error:
                raise OverrideError(str(error)) from None
    return space or SPACE


def _listed(key: str, text: str) -> tuple[Any, ...]:
    """Parse comma-separated values, or a TOML array of them."""
    whole = override({}, [f"{key}={text}"])[key]
    if isinstance(whole, list):
        return tuple(whole)
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"--over {key}={text} lacks a value; write --over {key}=VALUE,VALUE")
    return tuple(override({}, [f"{key}={part}"])[key] for part in parts)


def tune(
    folder: Path,
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
    """Search localization settings by the mAP of all seeds in a run's `folder`, and write the best as a preset.

    Without a `subset`, the videos are those that selected the run's step, or else its training videos. `coordinate`
    goes through the keys, keeping improvements, until a round finds none; `grid` tries all combinations.

    Raises:
        UsageError: when a video of the subset is a reported one, or none of them has segments, `out` is a folder, or
            the run is refined.
        WtalError: when no video of the subset has features.
        ConfigError: when a setting is refused.
    """
    if out is not None and out.is_dir():
        raise UsageError(f"--out takes the preset's file, and {out} is a folder; write --out {out / 'tuned.toml'}")
    seeds = open_runs(folder)
    if seeds[0].refined:
        raise UsageError(f"{folder} is a refined run, and its student has no signal to search; tune its teacher")
    own, rules = seeds[0].localize(assignments), seeds[0].recipe.evaluate
    space = _felt(own) if space == SPACE else space
    subset = subset or rules.select_subset or rules.train_subset
    scorer = _scorer(seeds, subset, rules, annotations, tious or rules.tiou, device, reporter)
    search = _coordinate if method == "coordinate" else _grid
    tried: dict[str, float] = {}

    def score_of(settings: Mapping[str, Any]) -> float:
        config = _laid_over(own, settings)
        key = digest(config.plain(), 16)
        if key not in tried:
            tried[key] = scorer.score(config)
        return tried[key]

    before = score_of({})
    best = search(score_of, space, own, reporter)
    config = _laid_over(own, {**best, "tuned_with_segments": True})
    file = out or folder / f"tuned-{digest(config.plain())}.toml"
    values, videos = _values(own, best), len(scorer.keys)
    tuned = Tuned(file, subset, videos, len(tried), values, best, before, score_of(best), config)
    write_atomic(file, _toml(tuned, method).encode())
    return tuned


@dataclass(frozen=True)
class _Scorer:
    """Stored activations of all seeds, and their ground truth; `keys` map the annotations' ids -> the store's."""

    activations: Sequence[FeatureStore]
    keys: Mapping[str, str]
    truth: Mapping[str, Sequence[Annotation]]
    classes: Sequence[str]
    tious: Sequence[float]

    def score(self, config: LocalizeConfig) -> float:
        """Return the mAP of a localization, averaged over seeds."""
        return fmean(self._score_seed(stored, config) for stored in self.activations)

    def _score_seed(self, stored: FeatureStore, config: LocalizeConfig) -> float:
        detections = localize_all(stored, list(self.keys.values()), self.classes, config, {})
        by_name = {name: detections[key] for name, key in self.keys.items()}
        return evaluate_detections(self.truth, by_name, self.tious).average


def _scorer(
    seeds: Sequence[Run],
    subset: str,
    rules: EvaluateConfig,
    annotations: Path | None,
    tious: str,
    device: str,
    reporter: Reporter,
) -> _Scorer:
    """Prepare the videos of a subset allowed for selection, and the activations of all seeds for them."""
    run = seeds[0]
    dataset = read_annotations(annotations or run.annotations_file())
    chosen = dataset.select(subset)
    reported = shared_videos(dataset, chosen, rules.test_subset)
    if annotations is not None:  # another file may use other names for the reported videos
        known = run.annotations()
        others = shared_videos(known, list(known.videos.values()), rules.test_subset)
        reported |= set(match_ids([video.id for video in chosen], sorted(others)))
    if reported:
        raise UsageError(
            f"{len(reported)} videos of {subset!r} are in the reported subset {rules.test_subset!r}, which must not "
            f"be used for selection; choose others, such as --subset '{rules.train_subset}@0/4'"
        )
    store = run.store()
    present = dataset.match(store.ids, [video.id for video in chosen])
    truth = {video.id: video.annotations for video in chosen if video.id in present}
    if not present:
        raise WtalError(f"no video of {subset!r} has features in {store.path}")
    if not any(truth.values()):
        raise UsageError(f"subset {subset!r} has no segments to choose by")
    learned = shared_videos(dataset, chosen, rules.train_subset)
    if learned:
        reporter.say(
            f"{len(learned)} of {len(chosen)} videos of {subset!r} were used to train the head, which performs better "
            "on them than on new ones; prefer a fold held out of training: "
            f"evaluate.train_subset='{rules.train_subset}@!0/4'"
        )
    stored = [activations_of(seed, store, list(present.values()), device, reporter) for seed in seeds]
    return _Scorer(stored, present, truth, run.classes, parse_tious(tious))


def _coordinate(
    score: Callable[[Mapping[str, Any]], float], space: Space, own: LocalizeConfig, reporter: Reporter
) -> dict[str, Any]:
    """Try one key after another, keeping improvements, in rounds until one brings none."""
    best: dict[str, Any] = {}
    highest = score(best)
    for number in range(_ROUNDS):
        before = highest
        with reporter.task(f"tune round {number + 1}", sum(map(len, space.values())), "setting") as task:
            for key, value in ((key, value) for key, values in space.items() for value in values):
                reached = score({**best, key: value})
                if reached > highest:
                    best, highest = {**best, key: value}, reached
                task.advance(1, f"mAP {100 * highest:.2f}")
        if highest == before:
            break
    return best


def _grid(
    score: Callable[[Mapping[str, Any]], float], space: Space, own: LocalizeConfig, reporter: Reporter
) -> dict[str, Any]:
    """Try all combinations; return the first of the best, or nothing if none is better than the run's own."""
    best: dict[str, Any] = {}
    highest = score(best)
    with reporter.task("tune", math.prod(map(len, space.values())), "setting") as task:
        for values in itertools.product(*space.values()):
            settings = dict(zip(space, values, strict=True))
            reached = score(settings)
            if reached > highest:
                best, highest = settings, reached
            task.advance(1, f"mAP {100 * highest:.2f}")
    return best


def _felt(own: LocalizeConfig) -> Space:
    """Return `SPACE` without the keys that a localization ignores."""
    idle = {"nms_tiou"} if own.suppression in ("soft", "none") else {"soft_sigma"}
    idle |= {"threshold_start", "threshold_stop"} if own.thresholds else set()
    return {key: values for key, values in SPACE.items() if key not in idle}


def _laid_over(own: LocalizeConfig, settings: Mapping[str, Any]) -> LocalizeConfig:
    """Lay settings over the run's own, or over a preset that is among them."""
    return LocalizeConfig.parse(settings if "preset" in settings else {**own.plain(), **settings}, "tune")


def _values(own: LocalizeConfig, best: Mapping[str, Any]) -> dict[str, Any]:
    return {key: own.plain().get(key, "") for key in best}


def _toml(tuned: Tuned, method: Method) -> str:
    """Format a preset: all non-default values, and their origin."""
    defaults = LocalizeConfig().plain()
    changed = {key: value for key, value in tuned.config.plain().items() if value != defaults.get(key)}
    source = (
        f"wtal tune, {method} search over {tuned.tried} settings: mAP {100 * tuned.score_before:.2f} -> "
        f"{100 * tuned.score:.2f} percent on {tuned.videos} videos of {tuned.subset}; tuned with segments"
    )
    head = [f"title = {json.dumps('Localization tuned on ' + tuned.subset)}", f"source = {json.dumps(source)}"]
    return "\n".join([*head, "", "[localize]", *(f"{key} = {_value(value)}" for key, value in changed.items()), ""])


def _value(value: Any) -> str:
    """Format a JSON type as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
