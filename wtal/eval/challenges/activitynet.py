"""ActivityNet Temporal Action Localization Challenge, release 1.3.

The official evaluation stops if one of `version`, `results` and `external_data` is missing.
"""

from wtal.eval.challenges import Challenge

CHALLENGE = Challenge(
    title="ActivityNet Temporal Action Localization Challenge",
    source="http://activity-net.org/challenges/2021/",
    version="VERSION 1.3",
    class_list="activitynet-1.3",
    results_only=False,
)
