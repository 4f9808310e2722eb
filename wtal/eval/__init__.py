"""The judge: metrics, challenge rules. It sees segments and thresholds, never a model."""

from wtal.eval.detection import Evaluation, evaluate_detections

__all__ = ["Evaluation", "evaluate_detections"]
