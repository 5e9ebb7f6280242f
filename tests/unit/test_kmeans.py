from __future__ import annotations

import pytest
import torch
from torch import Tensor

from icefall_ext.encoders.pretraining import kmeans
from icefall_ext.errors import UserError


def blobs(centres: Tensor, each: int, spread: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(centres) * each, centres.shape[1], generator=generator)
    return (centres.repeat_interleave(each, 0) + spread * noise)[torch.randperm(len(noise), generator=generator)]


def inertia(features: Tensor, centroids: Tensor) -> float:
    """In double precision, without the tricks."""
    return float((features[:, None].double() - centroids[None].double()).square().sum(2).min(1).values.mean())


def lloyd(features: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    features, centroids = features.double(), centroids.double()
    for _ in range(iterations):
        labels = (features[:, None] - centroids[None]).square().sum(2).argmin(1)
        centroids = torch.stack([features[labels == c].mean(0) for c in range(len(centroids))])
    return centroids


CENTRES = 10 * torch.eye(8)[:, :6] + torch.arange(8)[:, None]


def test_clusters_that_stand_apart_are_found_one_by_one():
    features = blobs(CENTRES, 50, 0.3)
    centroids = kmeans.fit(features, 8, seed=1)
    nearest = torch.cdist(CENTRES, centroids)
    assert sorted(nearest.argmin(1).tolist()) == list(range(8)) and nearest.min(1).values.max() < 0.3


def test_the_result_is_a_fixed_point_of_plain_lloyd():
    features = blobs(CENTRES, 40, 4.0)
    centroids = kmeans.fit(features, 8, seed=1, max_iterations=500, tolerance=0.0)
    torch.testing.assert_close(lloyd(features, centroids, 1).float(), centroids, atol=1e-4, rtol=0)


def test_it_is_as_good_as_the_best_of_twenty_plain_starts():
    features = blobs(CENTRES, 40, 4.0)
    generator = torch.Generator().manual_seed(3)
    starts = (features[torch.randperm(len(features), generator=generator)[:8]] for _ in range(20))
    best = min(inertia(features, lloyd(features, start, 30)) for start in starts)
    assert inertia(features, kmeans.fit(features, 8, seed=1)) < 1.05 * best


def test_frames_get_the_nearest_centroid_also_far_from_the_origin():
    features = blobs(CENTRES, 40, 2.0) + 3000.0
    centroids = kmeans.fit(features, 8, seed=1)
    exact = (features[:, None].double() - centroids[None].double()).square().sum(2).argmin(1)
    assert (kmeans.assign(features, centroids) == exact).float().mean() > 0.999
    assert inertia(features, centroids) == pytest.approx(inertia(features - 3000.0, centroids - 3000.0), rel=1e-3)


def test_the_seed_decides_and_nothing_else():
    features = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = kmeans.fit(features, 20, seed=1)
    torch.manual_seed(2)
    assert torch.equal(first, kmeans.fit(features, 20, seed=1))
    assert not torch.equal(first, kmeans.fit(features, 20, seed=2))


def test_no_cluster_stays_empty():
    features = torch.cat([torch.zeros(5000, 3), blobs(100 * torch.eye(3), 5, 1.0)])  # nearly all frames are the same
    labels = kmeans.assign(features, kmeans.fit(features, 12, seed=1))
    assert len(labels.unique()) == 12


def test_an_empty_cluster_moves_to_the_frame_that_is_worst_served():
    features = torch.tensor([[0.0], [0.2], [1.0], [9.0]])
    centroids = torch.tensor([[0.4], [50.0]])
    labels, distances = kmeans._nearest(features, centroids)
    moved = kmeans._means(features, labels, distances, centroids)
    assert labels.tolist() == [0, 0, 0, 0] and moved[1].tolist() == [9.0]


def test_frames_are_taken_in_chunks_with_the_same_result(monkeypatch):
    features = blobs(CENTRES, 40, 2.0)
    whole = kmeans.fit(features, 8, seed=1)
    monkeypatch.setattr(kmeans, "_CHUNK", 7)
    torch.testing.assert_close(kmeans.fit(features, 8, seed=1), whole)


@pytest.mark.parametrize("features, message", [
    (torch.zeros(50, 3), "fewer different frames than 4 clusters"),
    (torch.full((50, 3), torch.nan), "not finite"),
])
def test_what_cannot_be_clustered_is_one_line(features, message):
    with pytest.raises(UserError, match=message):
        kmeans.fit(features, 4, seed=1)
