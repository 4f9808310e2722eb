"""Diagnosis of detections: errors, their costs, and the characteristics that cause them."""
