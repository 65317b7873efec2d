"""What `vis.evaluate` does with one method: its maps and random ones, measured by all metrics together."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from vis.engine.graph import has_graph, last_layers
from vis.engine.probabilities import is_probability_operation
from vis.methods.explainer import Explainer
from vis.methods.perturbation import PerturbationExplainer
from vis.metrics.base import Metric, ModelMetric, Samples, check_fill, words_fill
from vis.metrics.baselines import centre_maps, edge_maps, random_maps
from vis.metrics.complexity import Entropy, Sparseness
from vis.metrics.curves import ROAD, SRG, CurveMetric, Deletion, Insertion
from vis.metrics.faithfulness import AverageDrop, AverageGain, AverageIncrease, Infidelity, MuFidelity
from vis.metrics.localization import PointingGame, RelevanceMass, RelevanceRank
from vis.metrics.randomization import ParameterRandomization
from vis.metrics.robustness import Completeness, ExplainerMetric, MaxSensitivity
from vis.metrics.verdicts import HIGHEST_LEVEL, LEVEL
from vis.utils.internals import producers
from vis.utils.validation import VisualizationWarning, listed, near_names, shown

FILLED = {one.name: one for one in (SRG, Insertion, Deletion, MuFidelity, Infidelity)}
OF_ONE_FILL = {one.name: one for one in (ROAD, AverageDrop, AverageIncrease, AverageGain)}
OF_MASKS = {one.name: one for one in (PointingGame, RelevanceMass, RelevanceRank)}
OF_MAPS = {one.name: one for one in (Sparseness, Entropy)}
OF_EXPLAINERS = {one.name: one for one in (MaxSensitivity, ParameterRandomization, Completeness)}
NAMES = [*FILLED, *OF_ONE_FILL, *OF_MASKS, *OF_MAPS, *OF_EXPLAINERS]
EDGES, CENTRE = "edge filter", "centred Gaussian"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One column of a study: a metric with its fill.

    Args:
        metric: The metric; of those that ask explainers, the class.
        fill: Its fill in words, or "" where it has none.
        is_own: Whether the user made it, with a model and settings of its own.
    """

    metric: Any
    fill: str = ""
    is_own: bool = False

    @property
    def name(self) -> str:
        """What tables call the metric."""
        return self.metric.name

    @property
    def asks_explainers(self) -> bool:
        """Whether it asks the explainer again."""
        return isinstance(self.metric, type)


def read_metrics(given, fills, masks, options) -> list[Wanted]:
    """Returns the metrics that are wanted, one for each fill where fills matter.

    Args:
        given: Names and metrics.
        fills: See `vis.evaluate`.
        masks: See `vis.evaluate`.
        options: What every metric of a model is made with.

    Raises:
        ValueError: There is no such metric, or one needs masks and there are none.
        TypeError: Something is no metric.
    """
    given = [given] if isinstance(given, (str, Metric)) else given
    fills = fills if isinstance(fills, (list, tuple)) else [fills]
    if not isinstance(given, (list, tuple)) or not given or not fills:
        raise ValueError(
            f"`metrics` and `fills` must be lists, not empty. Received: {shown(given)} and {shown(fills)}."
        )
    fills = [check_fill(fill) for fill in fills]
    return _told_apart([wanted for one in given for wanted in _wanted(one, fills, masks, options)])


def _told_apart(columns):
    """Returns columns of which those with the same words, such as two backgrounds, are numbered."""
    found, counts = [], {}
    for one in columns:
        number = counts[one.name, one.fill] = counts.get((one.name, one.fill), 0) + 1
        words = f"{one.fill} ({number})" if one.fill else f"({number})"
        found.append(one if number == 1 else dataclasses.replace(one, fill=words))
    return found


def _wanted(one, fills, masks, options):
    if isinstance(one, ExplainerMetric):
        raise TypeError(
            f"`metrics` must name what asks the explainers, {listed(OF_EXPLAINERS)}. Received: {one!r}, which has an "
            "explainer of its own. Call it by itself, or give its name."
        )
    if isinstance(one, Metric):
        return [Wanted(one, getattr(one, "fill_name", ""), True)]
    if not isinstance(one, str):
        raise TypeError(f"`metrics` must hold names or metrics of `vis.metrics`. Received: {shown(one)}.")
    if one in FILLED:
        return [Wanted(FILLED[one](fill=fill, **options), words_fill(fill)) for fill in fills]
    if one in OF_ONE_FILL:
        made = OF_ONE_FILL[one](**options)
        return [Wanted(made, made.fill_name)]
    if one in OF_EXPLAINERS:
        return [Wanted(OF_EXPLAINERS[one])]
    if one in OF_MAPS:
        return [Wanted(OF_MAPS[one]())]
    if one not in OF_MASKS:
        raise ValueError(f"Unknown metric: {shown(one)}. {near_names(one, NAMES)}")
    if masks is None:
        raise ValueError(
            f"Metric {one!r} compares with masks of where the object is. Received: none. Give `masks=`, (N, *spatial) "
            "of booleans."
        )
    return [Wanted(OF_MASKS[one](masks))]


def read_explainers(explainers) -> dict:
    """Returns names and explainers or maps, or raises."""
    if not isinstance(explainers, Mapping) or not explainers:
        raise TypeError(
            "`explainers` must be a dict from names to explainers or their maps, not empty, such as "
            f"`{{'Grad-CAM': vis.GradCAM(model)}}`. Received: {shown(explainers)}."
        )
    taken = [name for name in explainers if name in (EDGES, CENTRE)]
    if taken:
        raise ValueError(f"The name {taken[0]!r} is that of a baseline, which is measured anyway. Choose another.")
    for name, one in explainers.items():
        if callable(one) and not isinstance(one, Explainer):
            raise TypeError(
                f"`explainers[{shown(name, 40)}]` must be an explainer made for a model, such as `vis.GradCAM(model)`, "
                f"or an array of maps. Received: {shown(one)}."
            )
    return {str(name): one for name, one in explainers.items()}


def model_of(explainers, model):
    """Returns the model that is asked: the user's, or that of the explainers.

    Raises:
        ValueError: There is none, or the explainers have several.
    """
    models = {id(one.model): one.model for one in explainers.values() if isinstance(one, Explainer)}
    if model is not None:
        return model
    if len(models) != 1:
        raise ValueError(
            "The metrics ask one model. Received: "
            f"{'explainers of several' if models else 'maps only, which know none'}. Give `model=`."
        )
    return next(iter(models.values()))


def warn_of_other_layers(explainers, samples) -> None:
    """Warns where an explainer explains another layer or model than the one whose score the metrics look at."""
    model, asked = samples.explainer.evaluator.model, samples.explainer.evaluator.output
    for name, one in explainers.items():
        if not isinstance(one, Explainer):
            continue
        is_other, own, measured = one.model is not model, _ends(model, one.evaluator.output), _ends(model, asked)
        if is_other or not {id(end) for end in own} & {id(end) for end in measured}:
            what = "another model" if is_other else f"layer {own[0].name!r}"
            warnings.warn(
                f"`explainers[{shown(name, 40)}]` explains {what}, but the metrics look at {measured[0].name!r} of the "
                f"model that is measured. Give both the same {'`model=`' if is_other else '`output_layer=`'}.",
                VisualizationWarning,
                stacklevel=3,
            )


def _ends(model, site):
    """Returns the operations whose outputs are meant, and what goes into a softmax or sigmoid: the same classes."""
    ends = _inner_ends(model if site is None else site.layer(model))
    before = [one for end in ends if is_probability_operation(end) for one in producers(end)]
    return ends + [inner for one in before for inner in _inner_ends(one)]


def _inner_ends(operation):
    return last_layers(operation) if has_graph(operation) else [operation]


def samples_of(model, inputs, target, batch_size, options) -> Samples:
    """Returns the samples that all metrics share, with their target settled."""
    explainer = PerturbationExplainer(model, **options)
    task = explainer.evaluator.task(inputs, target, batch_size, 0).settled()
    return Samples(explainer, task, explainer.perturbed(task.batch))


def classes_of(samples) -> np.ndarray | None:
    """Returns the class of each sample that is explained, `(N,)`, or `None` for other targets."""
    return getattr(samples.task.goal, "classes", None)


@dataclasses.dataclass(eq=False)
class Study:
    """Samples, metrics, and how random maps are drawn.

    Args:
        samples: The samples.
        wanted: The metrics.
        baselines: How many random maps each map is compared with.
        seed: Of random maps.
        inputs: As the user gave them.
        target: As the user gave it, or the classes that were found.
        batch_size: How many evaluations run at once.
        bar: A progress bar, or `None`.
    """

    samples: Samples
    wanted: list[Wanted]
    baselines: int
    seed: int
    inputs: Any
    target: Any
    batch_size: int
    bar: Any = None

    def __post_init__(self):
        self._own = {}

    def steps(self, methods: int, beside: int) -> int:
        """Returns how many steps the progress bar has: one for each method or baseline and metric."""
        return methods * len(self.wanted) + beside * sum(not one.asks_explainers for one in self.wanted)

    def _step(self):
        if self.bar is not None:
            self.bar.add(1)

    def check(self) -> None:
        """Raises where a fill or a mask does not fit the inputs, and warns where there are too few random maps."""
        count = self.samples.count
        if (1 + self.baselines) ** -count > (LEVEL if count > 1 else HIGHEST_LEVEL):
            warnings.warn(
                f"With {count} samples and {self.baselines} random maps no method can be told from chance, so every "
                "verdict will be 'indistinguishable from random'. Give more `baselines` (one sample needs 19), or more "
                "samples.",
                VisualizationWarning,
                stacklevel=3,
            )
        flat = np.zeros((1, self.samples.count, *self.samples.shape), "float32")
        for one in self.wanted:
            if isinstance(one.metric, ModelMetric):
                self._samples(one).read_fill(one.metric.fill)
            elif one.metric.needs_masks:
                one.metric.measure(self.samples, flat, {})

    def _samples(self, wanted):
        if not (wanted.is_own and isinstance(wanted.metric, ModelMetric)):
            return self.samples
        if id(wanted.metric) not in self._own:
            self._own[id(wanted.metric)] = wanted.metric.samples(self.inputs, self.target, self.batch_size)
        return self._own[id(wanted.metric)]

    @property
    def has_order(self) -> bool:
        """Whether positions that follow one another are neighbours."""
        return not self.samples.is_text and self.samples.task.batch.arrays[self.samples.index].ndim > 2

    def baseline_maps(self) -> dict[str, np.ndarray]:
        """Returns the maps of the edge filter, where the input has edges, and of the middle."""
        if not self.has_order:
            return {}
        edges = edge_maps(self.samples.values, len(self.samples.shape))
        found = {} if edges is None else {EDGES: edges}
        return {**found, CENTRE: centre_maps(self.samples.shape, self.samples.count)}

    def with_random(self, maps) -> np.ndarray:
        """Returns maps `(N, *spatial)` and their random ones, `(1 + B, N, *spatial)`."""
        others = random_maps(maps, self.baselines, self.seed, self.samples.kept, self.has_order)
        return np.concatenate([maps[None], others])

    def measure(self, maps) -> tuple[dict, dict]:
        """Measures maps `(K, N, *spatial)` by all metrics that need no explainer.

        Returns:
            Dicts from the number of the metric: to `(K, N)`, and to the first map's curve `(N, steps + 1)`.
        """
        numbers, curves = {}, {}
        shared: dict[int, dict] = {}
        for i, one in enumerate(self.wanted):
            if one.asks_explainers:
                continue
            samples = self._samples(one)
            known = shared.setdefault(id(samples), {})
            numbers[i] = one.metric.measure(samples, maps, known)
            if isinstance(one.metric, CurveMetric):
                curves[i] = one.metric.shown_curve(one.metric.curves(samples, maps, known))[0]
            self._step()
        return numbers, curves

    def ask(self, explainer, raw) -> dict:
        """Measures an explainer by the metrics that ask it again; an array of maps has none of them.

        Args:
            explainer: The explainer, or maps.
            raw: Its maps, as it returned them.
        """
        found = {}
        for i, one in enumerate(self.wanted):
            if not one.asks_explainers:
                continue
            options = {} if one.metric is Completeness else {"seed": self.seed}
            metric = one.metric(explainer, **options)
            found[i] = metric(self.inputs, raw, self.target, self.batch_size).astype("float64")
            self._step()
        return found


def check_askable(explainers, wanted) -> None:
    """Raises where a metric needs an explainer and gets maps, or one whose maps it does not mean."""
    for one in wanted:
        for explainer in explainers.values() if one.asks_explainers else ():
            one.metric(explainer)
