"""Detections and ground truth to figures, tables and pages."""
