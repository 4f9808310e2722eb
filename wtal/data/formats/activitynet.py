"""ActivityNet JSON, releases 1.2 and 1.3, and the flat form that BSN and its descendants pass around.

The release has `version`, `taxonomy` and `database`: video id -> `{"duration": seconds, "subset": name, "annotations":
[{"label": name, "segment": [start, end]}]}`. The flat form is the content of `database` alone, keyed by `v_<id>`, with
`duration_second` and often no subset. Ids stay as the file has them; a store's are matched with or without `v_`.

The classes are the leaves of the taxonomy, sorted; without a taxonomy, all labels, sorted.
Source: http://activity-net.org, https://github.com/wzmsltw/BSN-boundary-sensitive-network.
"""

import re
from pathlib import Path

from wtal.data.assemble import read_database
from wtal.data.dataset import Dataset
from wtal.data.files import read_head


def sniff(path: Path) -> bool:
    """Return whether entries have `annotations`, and durations and segments are numbers."""
    head = read_head(path)
    is_object = head.lstrip().startswith("{") and '"annotations"' in head
    durations_are_texts = re.search(r'"duration"\s*:\s*"', head)
    segments_are_texts = re.search(r'"segment"\s*:\s*\[\s*"', head)
    return is_object and not durations_are_texts and not segments_are_texts


def read(path: Path) -> Dataset:
    """Read such a file.

    Raises:
        FormatError: naming the place in the file that is not as described.
    """
    return read_database(path)
