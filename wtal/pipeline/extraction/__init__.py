"""Videos to a feature store: planning, spreading over workers, timing."""
