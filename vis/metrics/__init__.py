"""Numbers beside the picture: does a map say more of the network than chance?"""

from vis.engine.masking import Background
from vis.metrics.base import Metric
from vis.metrics.complexity import Entropy, Sparseness
from vis.metrics.curves import ROAD, SRG, Deletion, Insertion
from vis.metrics.evaluation import Evaluation, evaluate
from vis.metrics.faithfulness import AverageDrop, AverageGain, AverageIncrease, Infidelity, MuFidelity
from vis.metrics.localization import PointingGame, RelevanceMass, RelevanceRank
from vis.metrics.randomization import ParameterRandomization
from vis.metrics.robustness import Completeness, MaxSensitivity

__all__ = [
    "AverageDrop",
    "AverageGain",
    "AverageIncrease",
    "Background",
    "Completeness",
    "Deletion",
    "Entropy",
    "Evaluation",
    "Infidelity",
    "Insertion",
    "MaxSensitivity",
    "Metric",
    "MuFidelity",
    "ParameterRandomization",
    "PointingGame",
    "ROAD",
    "RelevanceMass",
    "RelevanceRank",
    "SRG",
    "Sparseness",
    "evaluate",
]
