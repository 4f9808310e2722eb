"""The judge: metrics, error diagnosis, challenge rules. It depends on segments and thresholds, never on a model."""

from wtal.eval.bootstrap import compare_detections
from wtal.eval.classification import evaluate_labels
from wtal.eval.detection import Evaluation, evaluate_detections
from wtal.eval.diagnosis.diagnose import Diagnosis, diagnose_detections
from wtal.eval.proposals import evaluate_proposals

__all__ = [
    "Diagnosis",
    "Evaluation",
    "compare_detections",
    "diagnose_detections",
    "evaluate_detections",
    "evaluate_labels",
    "evaluate_proposals",
]
