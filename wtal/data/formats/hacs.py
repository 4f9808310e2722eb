"""HACS Segments JSON (v1.1, v1.1.1): ActivityNet's layout, but each `duration` is a string of seconds.

The subsets are `training`, `validation` and `testing`; the annotations of the last are withheld. The 200 classes have
ActivityNet 1.3's names. Source: https://github.com/hangzhaomit/HACS-dataset.
"""

import re
from pathlib import Path

from wtal.data.assemble import read_database
from wtal.data.dataset import Dataset
from wtal.data.files import read_head


def sniff(path: Path) -> bool:
    """Return True if entries have `annotations`, and durations are strings."""
    head = read_head(path)
    is_object = head.lstrip().startswith("{") and '"annotations"' in head
    return is_object and re.search(r'"duration"\s*:\s*"', head) is not None


def read(path: Path) -> Dataset:
    """Read a HACS Segments file.

    Raises:
        FormatError: when the file is malformed, naming the place in it.
    """
    return read_database(path)
