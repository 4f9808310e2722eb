"""The judge: metrics, challenge rules. It sees segments and thresholds, never a model."""

from wtal.eval.bootstrap import compare_detections
from wtal.eval.classification import evaluate_labels
from wtal.eval.detection import Evaluation, evaluate_detections
from wtal.eval.proposals import evaluate_proposals

__all__ = ["Evaluation", "compare_detections", "evaluate_detections", "evaluate_labels", "evaluate_proposals"]
