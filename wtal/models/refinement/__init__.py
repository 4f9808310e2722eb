"""Second stage: detections of a trained head become pseudo segments, from which a student learns borders."""
