"""Videos -> feature stores: resumable after each video, safe to run concurrently, published whole at the end."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtal.config import digest
from wtal.data.regular import NOT_REGULAR, is_pipe
from wtal.data.store.index import INDEX, read_index
from wtal.data.store.writer import StoreWriter, difference
from wtal.data.tally import first_names
from wtal.errors import UsageError
from wtal.extractors.backbones import BACKBONES, full_name
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.extraction.fingerprints import Fingerprints, status_of
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.profile import Profile, Stopwatch
from wtal.pipeline.extraction.reasons import ANOTHER_FILE, UNREADABLE, failure_kinds, oddities
from wtal.pipeline.extraction.sources import write_sources
from wtal.pipeline.extraction.spread import spread
from wtal.pipeline.extraction.videos import VideoFile, find_videos, passed_over
from wtal.pipeline.extraction.worker import Outcome
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.extractors.execution.extractor import Extractor, ExtractorSpec

_BATCH_OF_A_GPU = 16


@dataclass(frozen=True)
class ExtractResult:
    """The store, the videos requested, reasons why some are missing (id -> reason), and the timing of the call.

    `oddities` maps kind -> ids of the stored videos with that oddity.
    """

    store: Path
    videos: tuple[VideoFile, ...]
    failures: dict[str, str]
    profile: Profile
    oddities: dict[str, list[str]] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """Return a line for each kind of oddity and of failure: how many videos of how many, and the first of them."""
        failed = {f"failed, {kind}": videos for kind, videos in failure_kinds(self.failures).items()}
        return [
            f"{kind}: {len(videos)} of {len(self.videos)} ({first_names(videos)})"
            for kind, videos in {**self.oddities, **failed}.items()
        ]


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
    """Fill a store for each configuration, in order; extractors that use the same frames share one reading of a video.

    Raises:
        UsageError: when a path or a name does not exist, several stores would go to `out`, or weights match no
            backbone.
        WeightsError: when weights are missing or do not fit.
        StoreError: when `out` holds something else.
    """
    videos = find_videos(paths)
    extractors, stores = prepare(configs, workspace, weights, out, machine)
    for line in (*passed_over(paths), *other_flows(extractors, stores)):
        reporter.say(line)
    fingerprints = Fingerprints(workspace.seen_files if out is None else None)
    return fill(videos, extractors, stores, machine, reporter, fingerprints=fingerprints)


def fill(
    videos: Sequence[VideoFile],
    extractors: "Sequence[Extractor]",
    stores: Sequence[Path],
    machine: Machine,
    reporter: Reporter = SILENT,
    each: Callable[[Outcome], object] = lambda outcome: None,
    shown: Callable[[str], str] = str,
    fingerprints: Fingerprints | None = None,
) -> list[ExtractResult]:
    """Extract videos missing from the stores, one store per extractor, and publish them.

    `each` is called with every video extracted or failed, as soon as it is in the stores' parts; `shown` turns an id
    into its printed form. Files whose `fingerprints` are known are not read.

    Raises:
        StoreError: when a folder holds something other than its store.
    """
    writers = [StoreWriter.open(store, extractor.identity) for store, extractor in zip(stores, extractors, strict=True)]
    for store, extractor in zip(stores, extractors, strict=True):
        write_sources(store, extractor.spec)
    fingerprints = fingerprints or Fingerprints()
    with fingerprints.saved():
        failures = [_clashes(writer, videos, fingerprints) for writer in writers]
    clashes: dict[str, str] = {}
    for reasons in failures:
        clashes |= reasons
    for name, reason in clashes.items():
        reporter.say(f"failed: {shown(name)}: {reason}")
    todo = [video for video in videos if not all(map(partial(_settled, video), writers, failures))]
    statuses = {video.id: status_of(video.path) for video in todo}
    if len(todo) < len(videos) - len(failures[0]):
        done = len(videos) - len(failures[0]) - len(todo)
        reporter.say(f"{done} of {len(videos)} videos are already in {', '.join(map(str, stores))}")
    clock = Stopwatch()
    names = ", ".join(extractor.config.backbone for extractor in extractors)
    with fingerprints.saved(), reporter.task(f"extract {names}", len(todo), "video") as task:
        for outcome in spread(writers, extractors, todo, machine.settled(len(todo), runs_networks(extractors))):
            _record(outcome, failures, reporter, shown)
            if not any(outcome.reasons) and (fingerprint := writers[0].fingerprint(outcome.video.id)):
                fingerprints.learn(outcome.video.path, statuses[outcome.video.id], fingerprint)
            clock.add(outcome.spent)
            each(outcome)
            task.advance(note=shown(outcome.video.id))
    published = [writer.publish() for writer in writers]
    profile = clock.profile(len(todo))
    ids = [video.id for video in videos]
    return [
        ExtractResult(store.path, tuple(videos), dict(sorted(reasons.items())), profile, oddities(store, ids))
        for store, reasons in zip(published, failures, strict=True)
    ]


def _record(
    outcome: Outcome, failures: Sequence[dict[str, str]], reporter: Reporter, shown: Callable[[str], str]
) -> None:
    """Add a video's failures to those of the stores, and report each reason once."""
    name = outcome.video.id
    for reasons, reason in zip(failures, outcome.reasons, strict=True):
        if reason:
            reasons.setdefault(name, reason)
    for reason in dict.fromkeys(filter(None, outcome.reasons)):
        reporter.say(f"failed: {shown(name)}: {reason}")


def _settled(video: VideoFile, writer: StoreWriter, failures: Mapping[str, str]) -> bool:
    return video.id in failures or writer.done(video.id)


def prepare(
    configs: Sequence[ExtractConfig], workspace: Workspace, weights: Sequence[str], out: Path | None, machine: Machine
) -> "tuple[list[Extractor], list[Path]]":
    """Return extractors for configurations, and the stores to fill; nothing is written.

    Raises:
        UsageError: when a name does not exist, several stores would go to `out`, or weights match no backbone.
        WeightsError: when weights are missing or do not fit.
    """
    from wtal.extractors.execution.extractor import Extractor
    from wtal.pipeline.extraction.weights_options import share_out

    if out is not None and len(configs) > 1:
        raise UsageError(f"one folder cannot hold {len(configs)} stores; leave out --out, or pass a single --backbone")
    names = [full_name(config.backbone) for config in configs]
    shares = share_out(weights, {name: BACKBONES.load(name).STREAMS for name in names})
    extractors = [
        Extractor(make_spec(config, shares[name], machine)) for config, name in zip(configs, names, strict=True)
    ]
    stores = [
        out or workspace.features / f"{extractor.readable}-{digest(extractor.identity)}" for extractor in extractors
    ]
    if len(set(stores)) < len(stores):
        raise UsageError("a backbone is named twice with the same settings; name each once")
    return extractors, stores


def runs_networks(extractors: "Sequence[Extractor]") -> bool:
    """Tell whether any of the extractors runs a network, which takes all cores of a processor by itself."""
    return not all(backbone.side_by_side for extractor in extractors for backbone in extractor.backbones.values())


def other_flows(extractors: "Sequence[Extractor]", stores: Sequence[Path]) -> list[str]:
    """Return a line for each new store next to one that differs only in the computation of the same flow.

    An implementation requested by name is intentional, and gets no line.
    """
    lines = []
    for extractor, store in zip(extractors, stores, strict=True):
        if (store / INDEX).exists() or extractor.flow is None:
            continue
        neighbours = sorted(path.parent for path in store.parent.glob(f"{store.name.partition('-')[0]}*/{INDEX}"))
        differences = {other.name: _differs(read_index(other).identity, extractor) for other in neighbours}
        lines += [f"{store.name} is new next to {name}: {how}" for name, how in differences.items() if how][:1]
    return lines


def _differs(identity: Mapping[str, Any], extractor: "Extractor") -> str:
    """Describe how a store's identity differs from the extractor's, if only in computing the same flow; else ""."""
    there, here = identity.get("flow"), extractor.identity["flow"]
    alike = {**identity, "flow": None} == json.loads(json.dumps({**extractor.identity, "flow": None}))
    if not alike or not there or there["name"] != here["name"]:
        return ""
    flow, other = (f"{identity['name']}:{identity['implementation']}" for identity in (here, there))
    if flow == other:
        return f"for {flow}, {difference(there, here)}"
    if ":" in extractor.config.flow:
        return ""
    return f"flow is {other} there, {flow} here; to continue that store, use --flow {other} where available"


def make_spec(config: ExtractConfig, weights: tuple[tuple[str, str], ...], machine: Machine) -> "ExtractorSpec":
    """Return the spec for a configuration and (stream, source) pairs of weights on a machine."""
    from wtal.extractors.execution.extractor import ExtractorSpec

    batch = _BATCH_OF_A_GPU if machine.device.startswith("cuda") else ExtractorSpec.batch
    return ExtractorSpec(config, weights, machine.device, batch=batch, time_limit=machine.time_limit)


def _clashes(writer: StoreWriter, videos: Iterable[VideoFile], fingerprints: Fingerprints) -> dict[str, str]:
    """Return videos whose id already belongs to another file in the store, with the reason for their failure."""
    clashes = {}
    for video in videos:
        if not (known := writer.fingerprint(video.id)):
            continue
        if is_pipe(video.path):
            clashes[video.id] = NOT_REGULAR
            continue
        try:
            other = known != fingerprints.fingerprint(video.path)
        except OSError as error:
            clashes[video.id] = UNREADABLE.format(error.strerror)
            continue
        if other:
            clashes[video.id] = ANOTHER_FILE.format(video.path.name)
    return clashes
