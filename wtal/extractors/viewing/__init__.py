"""Viewing of videos: formats that browsers play, copies for the rest, small pictures."""
