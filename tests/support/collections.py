"""Small collections made by hand: a store of random features, annotations, and a command on both."""

import json
from fractions import Fraction

import numpy as np
from click.testing import CliRunner

from wtal.cli import main
from wtal.data.grid import SnippetGrid
from wtal.data.store.writer import StoreWriter


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


def write_store(folder, seconds):
    """Write a store of random features, one snippet per half second."""
    writer = StoreWriter.open(folder, {"backbone": "made", "weights": {}})
    for number, (name, length) in enumerate(seconds.items()):
        grid = SnippetGrid(Fraction(20), int(length * 20), Fraction(10), 10)
        values = np.random.default_rng(number).standard_normal((grid.num_snippets, 4)).astype(np.float32)
        writer.write(name, grid, {"rgb": values}, {"reader": "none"}, str(number))
    return writer.publish()


def write_truth(path, videos):
    """Write annotations from video -> (subset, duration, label, start, end)."""
    database = {
        name: {"subset": subset, "duration": duration, "annotations": [{"label": label, "segment": [start, end]}]}
        for name, (subset, duration, label, start, end) in videos.items()
    }
    path.write_text(json.dumps({"database": database}))
    return path
