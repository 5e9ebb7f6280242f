"""k-means: k-means++ start (Arthur and Vassilvitskii 2007), Lloyd's iterations, repair of empty clusters.

    centroids = fit(features, clusters=100, seed=1)     # (N, D) -> (clusters, D)
    labels = assign(features, centroids)                # (N,) int64

All frames of a sample take part in every iteration instead of mini-batches: a distance to all centroids is one matrix
product, and 100,000 frames of 39 dimensions take a second. Features are centred first, or
|x|^2 - 2 x c + |c|^2 would lose in single precision what a large offset adds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from icefall_ext.errors import UserError

_CHUNK = 1 << 16  # frames whose distances to all centroids are in memory at once
_START_FRAMES = 200  # per cluster: a start from more frames is slower, not better


def fit(features: Tensor, clusters: int, seed: int, max_iterations: int = 50, tolerance: float = 1e-4) -> Tensor:
    """Stops when the mean squared distance falls by less than `tolerance` of itself."""
    if not torch.isfinite(features).all():
        raise UserError("k-means: features that are not finite; is there NaN in the audio, or in the encoder?")
    offset = features.mean(dim=0, dtype=torch.float64).to(features.dtype)
    features = features - offset
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(features), generator=random)[: _START_FRAMES * clusters]
    centroids = _spread_start(features[chosen.to(features.device)], clusters, random)
    before = math.inf
    for _ in range(max_iterations):
        labels, distances = _nearest(features, centroids)
        now, used = float(distances.mean(dtype=torch.float64)), len(labels.unique())
        if used == clusters and now >= before * (1 - tolerance):
            break
        before, centroids = now, _means(features, labels, distances, centroids)
    if used < clusters and len(features.unique(dim=0)) < clusters:
        raise UserError(f"k-means: fewer different frames than {clusters} clusters; take fewer clusters or more audio")
    return centroids + offset


def assign(features: Tensor, centroids: Tensor) -> Tensor:
    offset = centroids.mean(dim=0)
    return _nearest(features - offset, centroids - offset)[0]


def _nearest(features: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) the nearest centroid, of equal ones the first, and (N,) the squared distance to it."""
    norms = centroids.square().sum(dim=1)
    labels, distances = [], []
    for chunk in features.split(_CHUNK):
        smallest, nearest = torch.addmm(norms, chunk, centroids.T, alpha=-2.0).min(dim=1)
        labels.append(nearest)
        distances.append((smallest + chunk.square().sum(dim=1)).clamp(min=0.0))
    return torch.cat(labels), torch.cat(distances)


def _spread_start(features: Tensor, clusters: int, random: torch.Generator) -> Tensor:
    """Each centroid is a frame drawn with the square of its distance to those before; the best of a few draws."""
    tries = 2 + int(math.log(clusters))
    first = int(torch.randint(len(features), (1,), generator=random))
    chosen = [first]
    nearest = (features - features[first]).square().sum(dim=1)
    for _ in range(1, clusters):
        edges = nearest.double().cumsum(dim=0)
        if not float(edges[-1]) > 0:  # fewer different frames than clusters: the rest is for the repair of empty ones
            chosen += [first] * (clusters - len(chosen))
            break
        draws = torch.rand(tries, generator=random, dtype=torch.float64).to(features.device) * edges[-1]
        candidates = torch.searchsorted(edges, draws, right=True).clamp(max=len(features) - 1)
        distances = torch.cdist(features[candidates], features, compute_mode="donot_use_mm_for_euclid_dist").square()
        would_be = torch.minimum(distances, nearest)
        best = int(would_be.sum(dim=1, dtype=torch.float64).argmin())
        chosen.append(int(candidates[best]))
        nearest = would_be[best]
        nearest[candidates[best]] = 0.0
    return features[chosen].clone()


def _means(features: Tensor, labels: Tensor, distances: Tensor, centroids: Tensor) -> Tensor:
    """Of each cluster. An empty one goes to the frame that is worst served, which leaves no cluster empty for long."""
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=features.device)
    sums.index_add_(0, labels, features.double())
    counts = torch.bincount(labels, minlength=len(centroids)).unsqueeze(1)
    means = (sums / counts.clamp(min=1)).to(features.dtype)
    empty = (counts.squeeze(1) == 0).nonzero().squeeze(1)
    if len(empty):
        means[empty] = features[distances.topk(len(empty)).indices]
    return means
