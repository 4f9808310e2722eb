"""The judge: metrics, challenge rules. It sees segments and thresholds, never a model."""
