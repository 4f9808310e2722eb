"""Figures printed by `wtal run`, compared with those of `wtal evaluate`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from wtal.cli import main
from wtal.commands.run import show_result
from wtal.data.files import write_json
from wtal.pipeline.chain import RunResult
from wtal.pipeline.extraction.extract import ExtractResult
from wtal.pipeline.extraction.profile import Profile
from wtal.pipeline.judging.evaluate import evaluate
from wtal.pipeline.judging.sources import Question, sources


@pytest.mark.parametrize("stamps", [{}, {"tuned_with_segments": True, "weights": {"rgb": "random 3", "flow": "none"}}])
def test_figures_come_with_the_notes_and_stamps_of_evaluate(tmp_path, capsys, stamps):
    segments = [{"label": "jump", "segment": [0, 10]}]
    truth = write_json(tmp_path / "truth.json", {"database": {"a": {"subset": "validation", "annotations": segments}}})
    scored = [{"label": label, "segment": [0, 8], "score": 1} for label in ("jump", "dive")]
    detections = write_json(tmp_path / "detections.json", {"results": {"a": scored}, "wtal": stamps})
    question = Question(annotations=truth)
    judgement = evaluate(sources(detections, question), question)
    extracted = ExtractResult(Path("store"), (), {}, Profile(1.0, 0, {}))
    show_result(RunResult(extracted, [], [], [], judgement), as_json=False)
    printed = capsys.readouterr()
    alone = CliRunner().invoke(main, ["evaluate", str(detections), "--annotations", str(truth)])
    assert printed.out == f"{alone.stdout}\nfeatures    store\n"
    assert printed.err == alone.stderr
    assert "classes that the ground truth lacks, left out: 1 (first: 'dive')" in printed.err
    assert ("tuned with segments" in printed.out) == ("random weights: rgb" in printed.out) == bool(stamps)
