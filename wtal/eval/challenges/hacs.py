"""HACS Temporal Action Localization Challenge (2019 to 2021; weakly-supervised track in 2020 and 2021).

Its page shows a file with `results` only; its metric is ActivityNet's, whose files also have `version` and
`external_data`. Both forms are accepted here. The classes are ActivityNet 1.3's.
"""

from wtal.eval.challenges import Challenge

CHALLENGE = Challenge(
    title="HACS Temporal Action Localization Challenge",
    source="http://hacs.csail.mit.edu/challenge.html",
    version="HACS v1.1.1",
    class_list="activitynet-1.3",
    results_only=True,
)
