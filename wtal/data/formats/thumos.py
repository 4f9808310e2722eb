"""THUMOS14 as JSON, in the form common among weakly-supervised repositories: `gt.json`.

ActivityNet's layout, but the two values of a `segment` are strings of seconds, and there are no durations.
The subsets are `train` (the 200 untrimmed validation videos of the challenge) and `test` (210 of its 213 test videos).
Source: https://www.crcv.ucf.edu/THUMOS14, https://github.com/Pilhyeon/BaSNet-pytorch.
"""

import re
from pathlib import Path

from wtal.data.assemble import read_database
from wtal.data.dataset import Dataset
from wtal.data.files import read_head


def sniff(path: Path) -> bool:
    """Return True if entries have `annotations`, segments are strings, and durations are not."""
    head = read_head(path)
    is_object = head.lstrip().startswith("{") and '"annotations"' in head
    segments_are_texts = re.search(r'"segment"\s*:\s*\[\s*"', head)
    durations_are_texts = re.search(r'"duration"\s*:\s*"', head)
    return is_object and segments_are_texts is not None and not durations_are_texts


def read(path: Path) -> Dataset:
    """Read a THUMOS14 JSON file.

    Raises:
        FormatError: when the file is malformed, naming the place in it.
    """
    return read_database(path)
