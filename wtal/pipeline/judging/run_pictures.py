"""Sections of a page on a run's head in single videos.

Class activations against the ground truth (FAC-Net, Figures 5 to 7), failure cases (RSKP's supplement, Figure 5),
embedded snippets (FAC-Net, Figure 8; RSKP's supplement, Figures 6 and 7), pseudo labels (RSKP, Figure 6; supplement,
Figure 4).
"""

from collections.abc import Callable, Mapping, Sequence

from wtal.errors import UsageError, WtalError
from wtal.pipeline.judging.observed import Observed, chosen, ranked_videos
from wtal.pipeline.judging.snippet_pictures import embedding_section
from wtal.report.activations import video_picture
from wtal.report.failures import missed_annotations, surest_false_positives, worst_videos
from wtal.report.page import Picture, Section
from wtal.report.pseudo_labels import pseudo_label_picture
from wtal.report.style import drawable

_FAILURES = 3
"""Pictures of failure cases, in addition to the worst video."""


def observed_sections(observed: Observed, videos: Sequence[str] = (), seed: int = 0) -> list[Section]:
    """Draw the sections on a run: activations, failure cases, embedded snippets, pseudo labels.

    `videos` are shown, by default the best, the median and the worst; `seed` seeds t-SNE and the choice of snippets. A
    section that cannot be drawn (missing features, scikit-learn not installed) states the reason. An ensemble has no
    head to run, and one by detections has no pictures at all. Nothing is written.

    Raises:
        UsageError: when a video is unknown.
        StoreError: when the run's activations are missing.
        MissingExtraError: when matplotlib is not installed.
    """
    drawable()
    run = observed.run
    signals = run.teacher() if run.refined else run
    if signals.ensemble == "detections":
        if videos:
            raise UsageError(f"--videos draws activations, but {run.folder} is an ensemble by detections and has none")
        return []
    shown = chosen(observed, videos)
    sections = [_activations(observed, shown), _failures(observed, shown)]
    if run.ensemble == "activations" or run.refined:
        return sections
    sections.append(_drawn("Embedded snippets", lambda: embedding_section(observed, shown, seed)))
    pseudo_labels = _drawn("Pseudo labels", lambda: _pseudo_labels(observed, shown))
    return [*sections, *([pseudo_labels] if pseudo_labels.pictures or pseudo_labels.text else [])]


def _drawn(title: str, draw: Callable[[], Section]) -> Section:
    try:
        return draw()
    except WtalError as error:
        return Section(title, f"Not drawn: {error}")


def _activations(observed: Observed, shown: Mapping[str, str]) -> Section:
    text = (
        "Output of the head for single videos, snippet by snippet, below the ground truth and the resulting detections "
        "on the same time axis. Annotated times are used for this comparison only; the head never saw them."
    )
    pictures = tuple(_picture(observed, f"activations-{_slug(role)}", role, video) for role, video in shown.items())
    return Section("Activations in single videos", text, (), pictures)


def _failures(observed: Observed, shown: Mapping[str, str]) -> Section:
    """List the worst videos, the most confident false positives and the missed annotations; draw any not yet shown."""
    evaluations = {name: evaluation for name, evaluation in observed.evaluations.items() if name in observed.keys}
    surest = {
        name: max((detection.score for detection, _ in evaluation.wrong), default=float("-inf"))
        for name, evaluation in evaluations.items()
    }
    first = [name for name in sorted(surest, key=lambda name: -surest[name])[:1] if evaluations[name].wrong]
    failed = [name for name in ranked_videos(observed) if (evaluations[name].ap or 0.0) < 1.0]
    cases = dict.fromkeys(failed[:_FAILURES], "low average precision")
    cases |= dict.fromkeys(first, "the most confident false positive")
    rest = [(role, name) for name, role in cases.items() if name not in shown.values()]
    pictures = tuple(_picture(observed, f"failure-{i}", role, name) for i, (role, name) in enumerate(rest, 1))
    scores = {name: observed.scores(name) for name in evaluations}
    tables = (
        worst_videos(evaluations, observed.at),
        surest_false_positives(evaluations, observed.at),
        missed_annotations(evaluations, scores, observed.at),
    )
    text = (
        "The average precision of a video ranks all its detections together, whatever their class, and is the mean "
        "over the thresholds of tIoU. It points to videos worth a look, and is not comparable with mAP. "
        "Single videos are evaluated by ActivityNet's rules, whatever the protocol; ambiguous ranges count.\n\n"
        "If all annotations of a video are found and no false positive ranks above them, the remaining loss comes from "
        'higher thresholds: their boundaries are loose. "Nearest" is the mean over annotations of the '
        "tIoU with the nearest detection of their class. A missed annotation whose class has a low video score may "
        "not have been searched for."
    )
    return Section("Failure cases", text, tuple(table for table in tables if table.rows), pictures)


def _picture(observed: Observed, name: str, role: str, video: str) -> Picture:
    return video_picture(name, observed.pictured_video(role, video), observed.classes, observed.localize, observed.at)


def _pseudo_labels(observed: Observed, shown: Mapping[str, str]) -> Section:
    """Draw the targets taught to snippets by the parameters at the end of each training stage, if there are several."""
    count = observed.trained(None).head.stages
    stages: dict[str, int | None] = {f"iteration {k + 1}": k for k in range(count)} if count > 1 else {"": None}
    trained = {name: observed.trained(stage) for name, stage in stages.items()}
    pictures = []
    for role, video in shown.items():
        taught = {name: observed.ask(stage, video).pseudo_labels for name, stage in trained.items()}
        if any(taught.values()):
            name, pictured = f"pseudo-labels-{_slug(role)}", observed.pictured_video(role, video)
            pictures.append(pseudo_label_picture(name, pictured, taught, observed.classes))
    return Section("Pseudo labels", "", (), tuple(pictures))


def _slug(role: str) -> str:
    return role.replace(" ", "-")
