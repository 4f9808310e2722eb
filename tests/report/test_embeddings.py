"""Snippets on a plane, and their neighbours."""

import numpy as np
import pytest

from wtal.report.embeddings import BACKGROUND, EmbeddedSnippets, neighbours_alike, tsne


@pytest.mark.slow
def test_tsne_says_the_same_twice_and_keeps_groups_together():
    rng = np.random.default_rng(0)
    centres = 5 * rng.standard_normal((2, 64))
    label = np.repeat([0, 1], 30)
    vectors = (centres[label] + rng.standard_normal((60, 64))).astype(np.float32)
    places = tsne(vectors, seed=1)
    np.testing.assert_array_equal(places, tsne(vectors.copy(), seed=1))
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (label[distance.argmin(axis=1)] == label).all()
    assert tsne(vectors[:3], seed=1).shape == (3, 2)


def test_neighbours_are_of_other_videos():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    alike = EmbeddedSnippets(vectors, np.array([0, 0, BACKGROUND, BACKGROUND]), np.array([0, 1, 0, 1]))
    assert neighbours_alike(alike) == (1.0, 0.5)
    # Each has an equal neighbour in its own video, and none in the other video.
    apart = EmbeddedSnippets(vectors, np.array([0, 0, BACKGROUND, BACKGROUND]), np.array([0, 0, 1, 1]))
    assert neighbours_alike(apart) == (0.0, 0.0)
    alone = EmbeddedSnippets(vectors, np.zeros(4, np.int64), np.zeros(4, np.int64))
    assert np.isnan(neighbours_alike(alone)).all()
