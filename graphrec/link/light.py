"""The weight-free convolution of link predictors."""

from __future__ import annotations

import torch
from torch import nn

from graphrec.nn.gcn import GCNLayer


def light_convolution(in_dim: int, out_dim: int, generator: torch.Generator | None = None) -> GCNLayer:
    """Make Y = D̃^-1/2 · (A + I) · D̃^-1/2 · X, with D̃ = degree + 1 and nothing to learn where `in_dim` is `out_dim`.

    Where the lengths differ, as from features of another length or in a `vgae`, which ends in means and deviations, one
    linear map without a bias brings them together: Y · W.

    Args:
        in_dim, out_dim: D of the source features and of what comes out.
        generator: source of W; None takes torch's own.

    **Source**: He et al. 2020, LightGCN, arXiv:2002.02126, equation 3 without weights and activation. Their mean over the hops
    is here the self-loops, whose last hop is a sum over all hops with binomial weights (their section 3.2.1).
    """
    layer = GCNLayer(in_dim, out_dim, self_loops=True, bias=False, generator=generator)
    if in_dim == out_dim:
        layer.weight = nn.Identity()
    return layer
