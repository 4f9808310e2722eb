"""Videos to a feature store: planning, distribution over workers, timing."""
