"""ActivityNet JSON, releases 1.2 and 1.3, and the flat form used by BSN and its descendants.

The release has `version`, `taxonomy` and `database`: video id -> `{"duration": seconds, "subset": name, "annotations":
[{"label": name, "segment": [start, end]}]}`. The flat form is the content of `database` alone, keyed by `v_<id>`, with
`duration_second` and often no subset. Ids are those of the file; a store's are matched with or without `v_`.

The classes are the leaves of the taxonomy, sorted; without a taxonomy, all labels, sorted.
Source: http://activity-net.org, https://github.com/wzmsltw/BSN-boundary-sensitive-network.
"""

import re
from pathlib import Path

from wtal.data.assemble import read_database
from wtal.data.dataset import Dataset
from wtal.data.files import read_head


def sniff(path: Path) -> bool:
    """Return True if entries have `annotations`, and durations and segments are numbers."""
    head = read_head(path)
    is_object = head.lstrip().startswith("{") and '"annotations"' in head
    durations_are_texts = re.search(r'"duration"\s*:\s*"', head)
    segments_are_texts = re.search(r'"segment"\s*:\s*\[\s*"', head)
    return is_object and not durations_are_texts and not segments_are_texts


def read(path: Path) -> Dataset:
    """Read an ActivityNet JSON file.

    Raises:
        FormatError: when the file is malformed, naming the place in it.
    """
    return read_database(path)
