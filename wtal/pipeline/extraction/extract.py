"""Videos -> feature stores: resumable a video at a time, safe beside itself, whole at the end."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtal.config import digest
from wtal.data.store.index import INDEX, read_index
from wtal.data.store.writer import StoreWriter, difference, file_fingerprint
from wtal.errors import ConfigError, UsageError
from wtal.extractors.backbones import BACKBONES
from wtal.pipeline.extraction.profile import Profile, Stopwatch
from wtal.pipeline.extraction.spread import Machine, spread
from wtal.pipeline.extraction.videos import VideoFile, find_videos
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import ExtractConfig
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.extractors.execution.extractor import Extractor, ExtractorSpec

_BATCH_OF_A_GPU = 16


@dataclass(frozen=True)
class ExtractResult:
    """The store, the videos asked for, why some are not in it (id -> reason), and where the call's time went."""

    store: Path
    videos: tuple[VideoFile, ...]
    failures: dict[str, str]
    profile: Profile


def extract(
    paths: Sequence[Path],
    config: ExtractConfig,
    workspace: Workspace,
    weights: Sequence[str] = (),
    out: Path | None = None,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> ExtractResult:
    """Extract every video below `paths` that the store does not hold yet.

    Raises:
        UsageError: when a path or a name does not exist.
        WeightsError: when weights are missing or do not fit.
        StoreError: when `out` holds something else.
    """
    return extract_all(paths, [config], workspace, weights, out, machine, reporter)[0]


def extract_all(
    paths: Sequence[Path],
    configs: Sequence[ExtractConfig],
    workspace: Workspace,
    weights: Sequence[str] = (),
    out: Path | None = None,
    machine: Machine = Machine(),  # noqa: B008 - frozen
    reporter: Reporter = SILENT,
) -> list[ExtractResult]:
    """A store for each configuration, in their order; what sees the same frames is read once.

    Raises:
        UsageError: when a path or a name does not exist, `out` is to hold several stores, or weights are for nobody.
        WeightsError: when weights are missing or do not fit.
        StoreError: when `out` holds something else.
    """
    videos = find_videos(paths)
    extractors, stores = prepare(configs, workspace, weights, out, machine)
    for line in other_flows(extractors, stores):
        reporter.say(line)
    writers = [StoreWriter.open(store, one.identity) for store, one in zip(stores, extractors, strict=True)]
    failures = [_clashes(writer, videos) for writer in writers]
    for name, reason in {name: reason for found in failures for name, reason in found.items()}.items():
        reporter.say(f"failed: {name}: {reason}")
    todo = [video for video in videos if not all(_settled(video, *one) for one in zip(writers, failures, strict=True))]
    if len(todo) < len(videos) - len(failures[0]):
        done = len(videos) - len(failures[0]) - len(todo)
        reporter.say(f"{done} of {len(videos)} videos are in {', '.join(map(str, stores))} already")
    clock = Stopwatch()
    names = ", ".join(config.backbone for config in configs)
    with reporter.task(f"extract {names}", len(todo), "video") as task:
        for outcome in spread(stores, extractors, todo, machine):
            name = outcome.video.id
            for found, reason in zip(failures, outcome.reasons, strict=True):
                if reason:
                    found.setdefault(name, reason)
            for reason in dict.fromkeys(filter(None, outcome.reasons)):
                reporter.say(f"failed: {name}: {reason}")
            clock.add(outcome.spent)
            task.advance(note=name)
    for writer in writers:
        writer.publish()
    profile = clock.profile(len(todo))
    return [
        ExtractResult(store, tuple(videos), dict(sorted(found.items())), profile)
        for store, found in zip(stores, failures, strict=True)
    ]


def _settled(video: VideoFile, writer: StoreWriter, failures: Mapping[str, str]) -> bool:
    return video.id in failures or writer.done(video.id)


def prepare(
    configs: Sequence[ExtractConfig], workspace: Workspace, weights: Sequence[str], out: Path | None, machine: Machine
) -> "tuple[list[Extractor], list[Path]]":
    """Extractors for configurations, and the stores that they fill; nothing is written.

    Raises:
        UsageError: when a name does not exist, `out` is to hold several stores, or weights are for nobody.
        WeightsError: when weights are missing or do not fit.
    """
    from wtal.extractors.backbone import full_name
    from wtal.extractors.execution.extractor import Extractor
    from wtal.pipeline.extraction.weights_options import share_out

    if out is not None and len(configs) > 1:
        raise UsageError(f"one folder cannot hold {len(configs)} stores; leave --out, or name one --backbone")
    names = [full_name(config.backbone) for config in configs]
    shares = share_out(weights, {name: BACKBONES.load(name).STREAMS for name in names})
    extractors = [
        Extractor(make_spec(config, shares[name], machine)) for config, name in zip(configs, names, strict=True)
    ]
    stores = [out or workspace.features / f"{one.readable}-{digest(one.identity)}" for one in extractors]
    if len(set(stores)) < len(stores):
        raise UsageError("a backbone is named twice with the same settings; name each once")
    return extractors, stores


def other_flows(extractors: "Sequence[Extractor]", stores: Sequence[Path]) -> list[str]:
    """A line for each store that is not there, while one beside it differs only in how the same flow is computed.

    An implementation that was asked for by name is no surprise.
    """
    lines = []
    for extractor, store in zip(extractors, stores, strict=True):
        if (store / INDEX).exists() or extractor.flow is None:
            continue
        beside = sorted(path.parent for path in store.parent.glob(f"{store.name.partition('-')[0]}*/{INDEX}"))
        found = {other.name: _differs(read_index(other).identity, extractor) for other in beside}
        lines += [f"{store.name} begins beside {name}: {how}" for name, how in found.items() if how][:1]
    return lines


def _differs(identity: Mapping[str, Any], extractor: "Extractor") -> str:
    """From the identity of a store, if only in how the same flow is computed: in words."""
    there, here = identity.get("flow"), extractor.identity["flow"]
    alike = {**identity, "flow": None} == json.loads(json.dumps({**extractor.identity, "flow": None}))
    if not alike or not there or there["name"] != here["name"]:
        return ""
    flow, other = (f"{one['name']}:{one['implementation']}" for one in (here, there))
    if flow == other:
        return f"of {flow}, {difference(there, here)}"
    if ":" in extractor.spec.flow:
        return ""
    return f"flow is {other} there, {flow} here; --flow {other} goes on with that one, where it can run"


def make_spec(config: ExtractConfig, weights: tuple[tuple[str, str], ...], machine: Machine) -> "ExtractorSpec":
    """The extractor that a configuration and (stream, source) pairs of weights describe.

    Raises:
        ConfigError: when fps is not a positive number or fraction.
    """
    from wtal.extractors.execution.extractor import ExtractorSpec

    try:
        fps = Fraction(config.fps)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if fps <= 0:
        raise ConfigError(f"extract.fps is a positive number or fraction such as 25 or 30000/1001, got {config.fps!r}")
    return ExtractorSpec(
        backbone=config.backbone,
        streams=config.streams,
        flow=config.flow,
        fps=fps,
        stride=config.stride,
        tail=config.tail,
        reader=config.reader,
        dtype=config.dtype,
        weights=weights,
        device=machine.device,
        batch=_BATCH_OF_A_GPU if machine.device.startswith("cuda") else ExtractorSpec.batch,
        time_limit=machine.time_limit,
        crops=config.crops,
        runtime=config.runtime,
        precision=config.precision,
    )


def _clashes(writer: StoreWriter, videos: Iterable[VideoFile]) -> dict[str, str]:
    """Videos whose id the store gives to another file."""
    clashes = {}
    for video in videos:
        if not (known := writer.fingerprint(video.id)):
            continue
        try:
            other = known != file_fingerprint(video.path)
        except OSError as error:
            clashes[video.id] = f"the file cannot be read any more: {error.strerror}"
            continue
        if other:
            clashes[video.id] = (
                f"the store holds another file under this id; rename {video.path.name} or use another store"
            )
    return clashes
