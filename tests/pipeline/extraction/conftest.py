"""Videos for one call of extraction, and the store that one process makes of them."""

from pathlib import Path

import pytest

from tests.support.spreading import COUNT, wtal
from tests.support.videos import constant, write_video


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(COUNT):
        write_video(folder / f"v{number}.mp4", constant(25, 30 + 12 * number))
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="session")
def plain(videos, tmp_path_factory):
    """Store and stderr of one call in one process."""
    done = wtal("extract", videos, "--workspace", tmp_path_factory.mktemp("plain"))
    assert done.returncode == 3, done.stderr
    return Path(done.stdout.strip()), done.stderr
