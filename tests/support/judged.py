"""Videos with annotations, and detections to be judged."""

import numpy as np

from wtal.data.segments import Annotation, Detection


def twelve_videos():
    """Twelve videos of two classes; a file with a detection in the middle of each, and a file with half of them."""
    rng = np.random.default_rng(1)
    truth, good, poor = {}, {}, {}
    for i in range(12):
        name, label = f"video-{i:02d}", ("run", "jump")[i % 2]
        truth[name] = [Annotation(10, 20, label), Annotation(30, 44, label)]
        good[name] = [Detection(11, 20, label, float(rng.random())), Detection(29, 44, label, float(rng.random()))]
        poor[name] = [good[name][0], Detection(60, 70, label, float(rng.random()))]
    return truth, good, poor


def odd_videos():
    """Twelve videos of three classes with odd names, and detections, half of them near an annotation."""
    rng = np.random.default_rng(3)
    classes = ("<run> & jump", "throw", "dive")
    truth, detections, durations = {}, {}, {}
    for i in range(12):
        name, label = f"video-{i:02d}", classes[i % 3]
        starts = np.sort(rng.uniform(0, 90, 4))
        truth[name] = [Annotation(a, a + b, label) for a, b in zip(starts, rng.uniform(1, 30, 4), strict=True)]
        durations[name] = 130.0
        near = [Detection(max(0.0, a.start + rng.normal()), a.end + 1, label, float(rng.random())) for a in truth[name]]
        far = [Detection(a, a + 5, str(rng.choice(classes)), float(rng.random())) for a in rng.uniform(0, 99, 6)]
        detections[name] = near + near[:1] + far
    return truth, detections, durations
