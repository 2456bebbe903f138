"""The table of distillers."""

from __future__ import annotations

from edgec.core.table import Table
from edgec.distillers.affinity import AFFINITY
from edgec.distillers.boxes import BOXES
from edgec.distillers.custom import CUSTOM
from edgec.distillers.cwd import CHANNEL_WISE
from edgec.distillers.distiller import DistillerSpec
from edgec.distillers.fitnet import FITNET
from edgec.distillers.logits import LOGITS
from edgec.distillers.mse import MEAN_SQUARED
from edgec.distillers.output import OUTPUT
from edgec.distillers.pkd import PEARSON
from edgec.distillers.spatial_attention import SPATIAL_ATTENTION

DISTILLERS = Table(
    "distiller",
    "edgec.distillers",
    DistillerSpec,
    (
        SPATIAL_ATTENTION,
        LOGITS,
        BOXES,
        OUTPUT,
        FITNET,
        MEAN_SQUARED,
        CHANNEL_WISE,
        PEARSON,
        AFFINITY,
        CUSTOM,
    ),
)
