"""What edgec uses of scikit-image's metrics, whose own types are open."""

import numpy as np

def structural_similarity(
    im1: np.ndarray,
    im2: np.ndarray,
    *,
    data_range: float,
    gaussian_weights: bool,
    sigma: float,
    use_sample_covariance: bool,
) -> float: ...
