"""Copies of videos for browsers on a full disk."""

import subprocess
import sys

from tests.support.videos import constant, write_video


def test_a_copy_that_does_not_fit_is_one_line_and_leaves_nothing(tmp_path):
    """Simulate a full disk by a limit for files."""
    write_video(tmp_path / "video.mp4", constant(25, 50))
    code = """
import resource, sys
from pathlib import Path
from wtal.extractors.viewing.proxy import write_proxy
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_proxy(folder / "video.mp4", folder / "copies" / "video.mp4")
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert f"DiskFullError: cannot write {tmp_path}/copies/video.mp4: File too large" in done.stderr
    assert list((tmp_path / "copies").iterdir()) == []
