"""Detections and ground truth to metrics, tables and pages."""
