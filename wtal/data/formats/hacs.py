"""HACS Segments JSON (v1.1, v1.1.1): ActivityNet's layout, but each `duration` is a text that spells the seconds.

The subsets are `training`, `validation` and `testing`; the annotations of the last are withheld. The 200 classes have
ActivityNet 1.3's names. Source: https://github.com/hangzhaomit/HACS-dataset.
"""

import re
from pathlib import Path

from wtal.data.assemble import read_database
from wtal.data.dataset import Dataset
from wtal.data.files import read_head


def sniff(path: Path) -> bool:
    """Return whether entries have `annotations`, and durations are texts."""
    head = read_head(path)
    is_object = head.lstrip().startswith("{") and '"annotations"' in head
    return is_object and re.search(r'"duration"\s*:\s*"', head) is not None


def read(path: Path) -> Dataset:
    """Read such a file.

    Raises:
        FormatError: naming the place in the file that is not as described.
    """
    return read_database(path)
