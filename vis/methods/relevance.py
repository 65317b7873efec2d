"""Relevance: what of the score each value of the input accounts for, handed down from layer to layer by rules."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np

from vis.backprop_modifiers import (
    DIFFERENCES,
    AttentionHalves,
    AttentionValues,
    Composite,
    EpsilonGammaBox,
    Flat,
    ZBox,
    composite,
)
from vis.engine.graph import has_own_code, walk
from vis.engine.requests import outputs_at, site
from vis.engine.tasks import gathered
from vis.methods.gradients import GradientExplainer, GradientTimesInput, read_baselines
from vis.utils.internals import producers
from vis.utils.validation import VisualizationWarning

if TYPE_CHECKING:
    from typing import Self

    from vis.engine.tasks import Task
    from vis.utils.types import Inputs, LayerLike, Maps, RuleLike

_OF_ATTENTION = (AttentionHalves, AttentionValues)
_GAP = 0.01  # of the difference of the scores: from here on it is said


class LRP(GradientTimesInput):
    """Layer-wise relevance propagation: the score, handed down from layer to layer to the input.

    Each layer shares the relevance of its outputs among its inputs by a rule, and a composite says which layer has
    which. The composite decides the picture: see the page "Choose a rule". Relevance sums to the score but for what
    biases and stabilisers take, which is not handed on. Its limit: the rules are conventions. Two composites give two
    answers, and the ones that look best need not be the most faithful.

    A batch normalisation beside a linear layer counts as a part of it. Gates of LSTM and GRU count as constants (Arras
    et al. 2017). `rules` tells what each operation gets, and what has no rule.

    The authors of LRP hold patents on it. A company that uses it should ask its lawyer.

    Source: Bach et al. 2015, "On Pixel-wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance
    Propagation"; the composites: Kohlbrenner et al. 2020, "Towards Best Practice in Explaining Neural Network Decisions
    with LRP", section 3.

    Args:
        model: Any built or callable Keras model. Not changed.
        composite: The name of a composite (`"epsilon"`, `"epsilon-plus"`, `"epsilon-plus-flat"`, `"epsilon-gamma"`,
            `"alpha2-beta1"`, `"alpha2-beta1-flat"`, `"deep-taylor"`, `"excitation"`), a
            `vis.backprop_modifiers.Composite`, or one rule for all linear layers. Default `"epsilon-plus-flat"`.
        input_layer: Layer whose units get the relevance instead of the inputs: name, path, index, layer, a pair of one
            of these and the number of the call, or `"tokens"` for the embedding of a text model's token ids. Default
            `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs, in units of the score. Inputs of whole
        numbers get zeros.

    Raises:
        ValueError: An argument is wrong, the composite has no rule for linear layers, or none of the model's
            operations gets a rule.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: Operations that are not linear have no rule; said once.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[3.0], [-1.0]])])
        >>> LRP(model, "epsilon")(np.array([[1.0, 1.0]])).round(4).tolist()
        [[3.0, -1.0]]
    """

    takes_several_targets = True

    def __init__(
        self,
        model: keras.Layer,
        composite: RuleLike = "epsilon-plus-flat",
        *,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        rules = _relevance_composite(composite)
        super().__init__(model, rules, input_layer=input_layer, output_layer=output_layer, logits=logits)
        self._rules, self._output_layer, self._logits = rules, output_layer, logits

    def __repr__(self) -> str:
        return f"LRP({self.model.name!r}, {self._rules.name!r})"

    def at(self, layer: LayerLike) -> Self:
        """Returns the explainer that gives the relevance of a layer's units instead of the inputs'.

        Args:
            layer: Name, path, index, layer, a pair of one of these and the number of the call, or `"tokens"`.

        Returns:
            An explainer like this one. When called, it returns relevance in the shape of the layer's output.

        Raises:
            ValueError: There is no such layer.

        Examples:
            >>> import keras
            >>> layers = [keras.Input((2,)), keras.layers.Dense(3, name="fc"), keras.layers.Dense(1)]
            >>> LRP(keras.Sequential(layers)).at("fc")(np.ones((1, 2))).shape
            (1, 3)
        """
        return type(self)(
            self.model, self._rules, input_layer=layer, output_layer=self._output_layer, logits=self._logits
        )

    def explain(self, task: Task) -> Maps:
        """Returns the relevance, in the structure of the inputs; see `Explainer.explain`."""
        self._tell_gaps(task)
        return super().explain(task)

    def _tell_gaps(self, task):
        rules, model = self._rules, self.model
        if not self.evaluator.is_first_time("gaps"):
            return
        if not rules.places(model):
            raise ValueError(
                f"No operation of model {model.name!r} gets a rule of composite {rules.name!r}, so there is no "
                "relevance to be handed down. Choose another composite, or another method: `vis.IntegratedGradients`."
            )
        has_code = any(has_own_code(one) for one in [model, *(one for _, one in walk(model))])
        ran = self._ran(task.batch) if has_code or self._gaps([]) else []
        gaps = [f"{path!r} ({type(one).__name__})" for path, one in self._gaps(ran)] if ran else []
        gaps += self._gaps_in_code(ran)
        if gaps:
            warnings.warn(_words_gaps(gaps), VisualizationWarning, stacklevel=4)
        wants = any(what == "attention" for what, _ in rules)
        if wants and not any(isinstance(rule, _OF_ATTENTION) for _, _, rule, _ in ran or self._ran(task.batch)):
            warnings.warn(_words_no_attention(rules), VisualizationWarning, stacklevel=4)
        for _, layer, _, rule in rules.places(model):
            is_named = rules.name.endswith("-flat")  # who gives the rule itself to a dense layer means it
            if is_named and isinstance(rule, Flat) and isinstance(layer, keras.layers.Dense) and self.site is None:
                warnings.warn(_words_flat(layer, rules), VisualizationWarning, stacklevel=4)
            if isinstance(rule, ZBox):
                self._check_box(task, layer, rule)

    def _check_box(self, task, layer, rule):
        """Warns where what a layer takes is not within the bounds of its rule, or hardly fills them."""
        before = producers(layer)
        if len(before) != 1:
            return
        is_input = isinstance(before[0], keras.layers.InputLayer)
        if not is_input:
            (_, few), *_ = task.groups(8)
            values = few.map(outputs_at(site(self.model, before[0])), quiet=True)["activations"][0]
        elif len(task.batch.arrays) == 1:
            values = task.batch.arrays[0]
        else:
            return
        low, high, least, most = np.min(rule.low), np.max(rule.high), float(values.min()), float(values.max())
        beyond = max(low - least, most - high)
        if beyond > (high - low) / 10 or most - least < (high - low) / 20:
            warnings.warn(_words_box(layer, rule, least, most), VisualizationWarning, stacklevel=5)


def _relevance_composite(identifier) -> Composite:
    if identifier is None or isinstance(identifier, (list, tuple)):
        raise TypeError(
            "`composite` must be the name of a composite, a composite or a rule. Received: "
            f"{type(identifier).__name__}. A list of pairs becomes one by `Composite(pairs)`."
        )
    if isinstance(identifier, type) or identifier is EpsilonGammaBox:
        name = getattr(identifier, "__name__", identifier)
        raise TypeError(
            f"`composite` must be a rule or composite. Received: {name!s:.60} itself. Call it: `{name!s:.60}(...)`."
        )
    found = composite(identifier, "composite")
    if found is None or not found.relevance:
        raise ValueError(
            "`composite` must have a rule for linear layers, such as 'epsilon-plus' has. Received: "
            f"{identifier!r:.80}, which has none. For gradients that it changes: "
            "`vis.Saliency(model, backprop_modifier=...)`."
        )
    return found


def _words_flat(layer, rules):
    return (
        f"Composite {rules.name!r} gives the rule 'flat' to the dense layer {layer.name!r:.60}: all values that it "
        "sees together get the same relevance. For a dense first layer take 'epsilon'."
    )


def _words_box(layer, rule, least, most):
    return (
        f"The bounds of the rule 'z-box' are what layer {layer.name!r:.60} can get. Received: low={rule.low!s:.60}, "
        f"high={rule.high!s:.60}, and values from {least:.3g} to {most:.3g}. After a Rescaling layer, give the bounds "
        "that it puts out."
    )


def _words_gaps(gaps):
    more = f" and {len(gaps) - 4} more" if len(gaps) > 4 else ""
    return (
        f"These operations are not linear and have no rule: {', '.join(gaps[:4]):.200}{more}. Their own gradient is "
        "used, so relevance may be lost or counted twice there. Give them rules by a Composite; "
        "`explainer.rules(inputs)` lists all."
    )


def _words_no_attention(rules):
    return (
        f"Composite {rules.name!r:.60} has a rule for attention, and none was found: no softmax whose outcome is "
        "multiplied with values. Functions imported from a framework cannot be seen. Without attention, take another "
        "composite, such as 'epsilon-plus'."
    )


class DeepLIFT(GradientExplainer):
    """What each value of the input adds to the difference between its score and that of a baseline.

    The contributions sum to this difference. One backward pass for input and baseline together, where integrated
    gradients take fifty. Products of two values and maxima have multipliers of their own here, so that they keep the
    sum; what else takes several values together (attention, layer normalisation) breaks it, and the gap is said. Its
    limits: like all methods with a baseline, it sees nothing in what equals the baseline; and two networks of the same
    function may get different contributions.

    Source: Shrikumar et al. 2017, "Learning Important Features Through Propagating Activation Differences", the
    rescale rule (section 3.5.1); products: Lundberg & Lee 2017, "A Unified Approach to Interpreting Model
    Predictions", section 4.2.

    Args:
        model: Any built or callable Keras model. Not changed.
        baseline: A number, an array that fits one sample or the batch, or a list or dict of those for several inputs;
            for `input_layer`, of the shape of its output. For `input_layer="tokens"`, and there only, whole numbers are
            token ids, see `vis.IntegratedGradients`. Default `None`: zeros.
        input_layer: Layer at whose output the attribution is made instead of at the inputs; `"tokens"` for the
            embedding of a text model's token ids. Default `None`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Returns:
        When called, float32, signed, in the shape and structure of the inputs, in units of the score.

    Raises:
        ValueError: An argument is wrong, or the score does not depend on the inputs.
        TypeError: An argument is of the wrong kind.

    Warns:
        VisualizationWarning: The contributions miss the difference of the scores by more than 1 %.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="relu")])
        >>> model.set_weights([np.array([[3.0], [-1.0]]), np.array([-1.0])])
        >>> DeepLIFT(model)(np.array([[1.0, 1.0]])).round(4).tolist()  # score 1 instead of 0
        [[1.5, -0.5]]
    """

    def __init__(
        self,
        model: keras.Layer,
        baseline: Inputs | None = None,
        *,
        input_layer: LayerLike | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__(model, DIFFERENCES, input_layer=input_layer, output_layer=output_layer, logits=logits)
        self._baseline = baseline

    def attributions(self, task: Task) -> list[np.ndarray]:
        """Returns the multipliers times the differences to the baseline."""
        task = task.settled()
        values = self.values(task)
        starts = read_baselines(self, task, values, self._baseline)
        is_shared = self.site is None and all(map(_is_one, starts))  # behind a layer, a sample's own inputs may matter
        start_scores, gaps = self._start_scores(task, values, starts) if is_shared else None, []

        def parts():
            for images, multipliers, scores, others in self._multipliers(task, values, starts, is_shared):
                found = [m * (v[images] - s[images]) for m, v, s in zip(multipliers, values, starts)]
                known = others if start_scores is None else start_scores[images]
                gaps.append(_gap(found, scores.astype("float64") - known))
                yield images, found

        whole = gathered(task.count, parts())
        self._tell_gap(np.concatenate(gaps))
        return whole

    def starts(self, task: Task) -> list[np.ndarray]:
        """Returns the baseline, see `vis.methods.gradients.GradientExplainer.starts`."""
        return read_baselines(self, task, self.values(task), self._baseline)

    def _start_scores(self, task, values, starts):
        """Returns the score of a shared baseline for each sample's target; `None` where one target is that of all."""
        if all(map(_is_one, task.goal.rows(np.arange(task.count)))):
            return None
        asked, request, how = self.asked(task, lambda images, _: [s[images] for s in starts], values)
        return asked.scores_of(dataclasses.replace(request, inputs=False), 1, quiet=True, **how)[:, 0]

    def _multipliers(self, task, values, starts, is_shared):
        """Yields `(images, multipliers, scores, scores of the baselines)` of samples evaluated with their baseline.

        A shared baseline is one row of each evaluation, and its score is that for the target of one of the samples;
        otherwise each sample comes with its own.
        """
        size = _samples_at_once(task) if is_shared else 1
        firsts = np.arange(0, task.count, size)[:, None]
        samples = np.minimum(firsts + np.append(np.arange(size), 0), task.count - 1).ravel()
        is_start = np.arange(len(samples)) % (size + 1) == size

        def given(rows, _):
            pairs = [(v[samples[rows]], s[samples[rows]], is_start[rows]) for v, s in zip(values, starts)]
            return [np.where(np.reshape(there, (-1, *[1] * (s.ndim - 1))), s, v) for v, s, there in pairs]

        part = dataclasses.replace(task.part(samples), batch_size=max(task.batch_size, size + 1))
        asked, request, how = self.asked(part, given, None if self.site is None else [v[samples] for v in values])
        for rows, _, results in asked.rows(dataclasses.replace(request, together=size + 1), **how):
            own, scores = ~is_start[rows], results["score"]
            multipliers = [g[own] for g in self._flat(part, results)]
            yield samples[rows][own], multipliers, scores[own], np.repeat(scores[~own], size)

    def _tell_gap(self, gaps):
        worst = float(gaps.max())
        if worst > _GAP and self.evaluator.is_first_time("gap"):
            warnings.warn(
                f"The contributions miss the difference between the scores of input and baseline by up to {worst:.0%}: "
                "the model takes several values together (attention, normalisation, a product in code of its own), "
                "for which the rescale rule has no multiplier. `vis.IntegratedGradients` keeps the sum.",
                VisualizationWarning,
                stacklevel=5,
            )


def _samples_at_once(task):
    """Returns how many samples are evaluated together with one baseline."""
    if task.batch.layout.fixed_size:
        return max(task.batch.layout.fixed_size - 1, 1)
    count = max(task.count, task.usual)
    return -(-count // -(-count // task.batch_size))


def _is_one(rows):
    return bool(np.all(rows == rows[:1]))


def _gap(contributions, difference):
    """Returns how far contributions are from the difference of the scores, as a part of it."""
    sums = sum(array.reshape(len(array), -1).sum(axis=1, dtype="float64") for array in contributions)
    sizes = sum(np.abs(array).reshape(len(array), -1).sum(axis=1, dtype="float64") for array in contributions)
    return np.abs(sums - difference) / (np.abs(difference) + 1e-3 * sizes + 1e-12)
