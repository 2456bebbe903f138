"""The recipe: the YAML schema, its parts in one file each. Never imports torch.

A recipe is the task, its data, the network, the stages in order, and the gates. `yaml_source` reads the text strictly and
knows the line of every key; the other files say what may stand there. All models are frozen and closed: an unknown key
is an error, with the nearest known key named.
"""

from __future__ import annotations

from edgec.distillers.affinity import FeatureAffinity
from edgec.distillers.boxes import Boxes
from edgec.distillers.custom import CustomTerm
from edgec.distillers.cwd import ChannelWise
from edgec.distillers.fitnet import FitNet
from edgec.distillers.logits import Logits
from edgec.distillers.mse import MeanSquared
from edgec.distillers.output import Output
from edgec.distillers.pkd import Pearson
from edgec.distillers.spatial_attention import SpatialAttention
from edgec.distillers.term import Tap, TappedTerm, Term
from edgec.recipe.base import (
    INTEGERS,
    Fraction,
    Frozen,
    Name,
    NonNegative,
    Precision,
    Ratio,
    RuntimeName,
)
from edgec.recipe.classes import check_unique_classes
from edgec.recipe.compression import Decompose, Prune, Quantize
from edgec.recipe.data import Data
from edgec.recipe.delivery import Export, Profile, TorchWays
from edgec.recipe.detection import (
    Augment,
    CocoData,
    CocoSplit,
    DetectionData,
    DetectionDataBase,
    Loss,
    SignsData,
    VocData,
    YoloData,
)
from edgec.recipe.knowledge import Distill, DistillationTraining, Distiller, QuantizationAware
from edgec.recipe.network import NetworkSource
from edgec.recipe.recipe import Gates, Recipe, load
from edgec.recipe.stages import Custom, Stage
from edgec.recipe.superres import FolderData, ImagesBase, ImageSet, PhotographsData, Sets, SuperresData
from edgec.recipe.training import Sparsify, Train, Training

__all__ = [
    "INTEGERS",
    "Augment",
    "Boxes",
    "ChannelWise",
    "CocoData",
    "CocoSplit",
    "Custom",
    "CustomTerm",
    "Data",
    "Decompose",
    "DetectionData",
    "DetectionDataBase",
    "Distill",
    "DistillationTraining",
    "Distiller",
    "Export",
    "FeatureAffinity",
    "FitNet",
    "FolderData",
    "Fraction",
    "Frozen",
    "Gates",
    "ImageSet",
    "ImagesBase",
    "Logits",
    "Loss",
    "MeanSquared",
    "Name",
    "NetworkSource",
    "NonNegative",
    "Output",
    "Pearson",
    "PhotographsData",
    "Precision",
    "Profile",
    "Prune",
    "QuantizationAware",
    "Quantize",
    "Ratio",
    "Recipe",
    "RuntimeName",
    "Sets",
    "SignsData",
    "Sparsify",
    "SpatialAttention",
    "Stage",
    "SuperresData",
    "Tap",
    "TappedTerm",
    "Term",
    "TorchWays",
    "Train",
    "Training",
    "VocData",
    "YoloData",
    "check_unique_classes",
    "load",
]
