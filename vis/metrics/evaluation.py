"""Several explainers, measured beside maps that know nothing: `vis.evaluate`."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.methods.explainer import Explainer
from vis.metrics import studies, tables, verdicts
from vis.metrics.base import read_reduction
from vis.utils.files import check_writable, whole_file
from vis.utils.labels import class_names
from vis.utils.validation import check_count, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from vis.metrics.base import Metric, Reduction
    from vis.utils.types import Index, Inputs, LayerLike, TargetLike

Key = tuple[str, str, str]


@dataclasses.dataclass(eq=False)
class Evaluation:
    """What `vis.evaluate` found. `print(evaluation)` is a table of at most 100 columns.

    A key is `(method, metric, fill)`, the fill in words, "" where a metric has none.

    Attributes:
        table: Records, dicts of `method`, `metric`, `fill`, `mean`, `low`, `high` (the 95 % interval: of a
            bootstrap over the samples, or of Student's t where that is wider), `interval` (what it is of: `"samples"`,
            `"random maps"` where there is one sample, or `None`), `percentile` (which part of
            its own random maps the method beats, in percent), `verdict` and `higher_is_better`.
        scores: Dict from keys to the metric of each sample, `(N,)`.
        random: Dict from keys to that of each method's random maps, `(baselines, N)`.
        curves: Dict from keys to curves, `(N, steps + 1)`.
        fractions: Dict from `(metric, fill)` to which part of the positions is hidden (for an insertion: shown) at each
            step of its curves.
        maps: Dict from methods to what was measured, `(N, *spatial)`.
        settings: Dict of what made the numbers.
        classes: A pair of words and the score for each sample.
        inputs: The inputs that the maps belong to, channels last.
        call: The Python call, as far as it can be known.
    """

    table: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    scores: dict[Key, np.ndarray] = dataclasses.field(default_factory=dict)
    random: dict[Key, np.ndarray] = dataclasses.field(default_factory=dict)
    curves: dict[Key, np.ndarray] = dataclasses.field(default_factory=dict)
    fractions: dict[tuple[str, str], np.ndarray] = dataclasses.field(default_factory=dict)
    maps: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    classes: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    inputs: np.ndarray | None = None
    call: str = ""

    def __str__(self) -> str:
        return tables.as_text(self.table, self._words()) if self.table else "Nothing was measured yet."

    def __repr__(self) -> str:
        methods = dict.fromkeys(record["method"] for record in self.table)
        return f"Evaluation of {', '.join(methods)}" if methods else "Evaluation, empty"

    def _words(self):
        count = len(self.classes)
        if count == 1:
            return "One sample: its interval is where its random maps lie, and the verdict is of this sample alone."
        return f"{count} samples. 'beats': how many of its own random maps a method beats."

    def figure(self) -> Figure:
        """Returns a figure: a panel for each metric and fill, a row for each method.

        Dots are means, lines their 95 % intervals, grey is where random maps lie. Green is better than chance and
        edges, brown not better than an edge filter, red indistinguishable from random, grey dots are baselines.

        Raises:
            ValueError: Nothing was measured.
        """
        from vis.metrics.figures import interval_figure

        self._check_measured(self.table, "No method was measured")
        return interval_figure(self.table, self.random)

    def curve_figure(self) -> Figure:
        """Returns a figure of the mean curves, a panel for each metric and fill.

        Raises:
            ValueError: No metric with curves was measured.
        """
        from vis.metrics.figures import curve_figure

        self._check_measured(self.curves, "No metric with curves was measured, such as 'deletion'")
        return curve_figure(self.curves, self.fractions)

    def to_markdown(self) -> str:
        """Returns the table in Markdown."""
        return tables.as_markdown(self.table, self._words())

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes settings, table, scores and mean curves as JSON; infinite numbers as `null`.

        Raises:
            OSError: The file cannot be written.
        """
        check_writable(path)
        found = {
            "settings": {name: str(value) for name, value in self.settings.items()},
            "call": self.call,
            "classes": [{"name": name, "score": score} for name, score in self.classes],
            "table": [{name: _finite(value) for name, value in record.items()} for record in self.table],
            "scores": [_named(key, scores=[*map(_finite, scores.tolist())]) for key, scores in self.scores.items()],
            "curves": [
                _named(key, fractions=self.fractions[key[1:]].tolist(), mean=values.mean(axis=0).tolist())
                for key, values in self.curves.items()
            ],
        }
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1, allow_nan=False, default=float) + "\n", "utf-8")

    def to_html(
        self,
        path: str | os.PathLike,
        title: str = "Which maps can be trusted?",
        most_images: int = 16,
        concepts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Writes one self-contained page: images and maps, the table, curves, and the settings.

        Args:
            path: Of the file; an existing one is replaced, once the new one is whole.
            title: Words at its top.
            most_images: How many images are shown with their maps, the first ones, at least 1; the numbers are always
                of all. Default 16, for a page below 5 MB.
            concepts: What `vis.concepts.CRAFT.records` returns, for a section of the page. Default none.

        Raises:
            OSError: The file cannot be written.
            ValueError: Nothing was measured.
        """
        from vis.metrics.pages import page_of
        from vis.report import write_page

        check_writable(path)
        self._check_measured(self.table, "No method was measured")
        write_page(path, page_of(self, title, check_count("most_images", most_images, 1), concepts))

    def _check_measured(self, what, words):
        if not what:
            raise ValueError(f"{words}, so there is nothing to show. Ask `vis.evaluate` for it.")


def _finite(value):
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _named(key, **values):
    return {**dict(zip(("method", "metric", "fill"), key)), **values}


def evaluate(
    explainers: Mapping[str, Explainer | ArrayLike],
    inputs: Inputs,
    target: TargetLike = None,
    metrics: Sequence[str | Metric] = ("srg", "insertion", "deletion"),
    fills: Sequence[Any] = ("mean", "road"),
    masks: ArrayLike | None = None,
    baselines: int = 20,
    seed: int = 0,
    batch_size: int = 32,
    verbose: int = 0,
    *,
    model: keras.Layer | None = None,
    labels: Sequence[str] | None = None,
    reduce: Reduction = "absolute",
    input_name: str | Index | None = None,
    output_layer: LayerLike | None = None,
    logits: bool = False,
) -> Evaluation:
    """Measures explainers beside maps that know nothing of the network, and says which are better.

    Each method is compared with random maps of the same spatial spectrum as its own (as coarse or fine, at random
    places), with an edge filter of the input and a Gaussian in the middle. A verdict of each row: `"better than chance
    and edges"`, `"not better than an edge filter"`, or `"indistinguishable from random"` (where inputs have no edges,
    as texts and tables, `"better than chance"`). Chance: fewer than 2.5 % of the ways to exchange maps for their random
    ones do as well (one sample must beat all of its random maps, 19 or more, or 97.5 % of 40 or more). Edges: the 95 %
    interval of the paired differences lies above 0. The verdict is about these samples, this metric and this fill, see
    "What the numbers can and cannot tell" in the documentation.

    Args:
        explainers: Dict from names to explainers, or to arrays of maps `(N, *spatial)`.
        inputs: What the model takes, batch axis first. Not changed.
        target: What is explained, see `vis.Saliency`. Default `None`: each sample's top class.
        metrics: Names, or metrics of `vis.metrics`: `"srg"`, `"insertion"`, `"deletion"`, `"mu-fidelity"`,
            `"infidelity"`, which are measured with each fill; `"road"`, `"average-drop"`, `"average-increase"`,
            `"average-gain"`, which have one; `"pointing-game"`, `"relevance-mass"`, `"relevance-rank"`, which need
            `masks`; `"sparseness"`, `"entropy"`; `"max-sensitivity"`, `"parameter-randomization"`, `"completeness"`,
            which ask the explainer again. Default `("srg", "insertion", "deletion")`, which share their evaluations.
        fills: What stands in place of hidden positions, see `vis.metrics.Deletion`. Default `("mean", "road")`. For
            texts, token ids.
        masks: Where the object is, `(N, *spatial)`, booleans. Default none.
        baselines: How many random maps each map is compared with, at least 1. Default 20.
        seed: Seed of everything random. Default 0.
        batch_size: How many evaluations of the model run at once.
        verbose: 1 for a progress bar. Default 0.
        model: The model, where all `explainers` are arrays. Default `None`: that of the explainers.
        labels: Names of the classes, in the order of the outputs. Default `None`: ImageNet's for 1,000 outputs, else
            their numbers.
        reduce: What becomes of channels of maps: `"absolute"` (default), `"sum"`, `"max"`, or a function.
        input_name: Which of several inputs the maps belong to, see `vis.Occlusion`.
        output_layer: Layer whose units the metrics look at. Default `None`: the model's output.
        logits: Whether the metrics look at the score before a final softmax or sigmoid. Default `False`.

    Returns:
        A `vis.metrics.Evaluation`. If it is interrupted, by Ctrl-C or an error, the exception has it as its attribute
        `evaluation`, with all methods that were finished.

    Raises:
        ValueError: An argument has a wrong value.
        TypeError: An argument is of the wrong kind, such as maps where a metric needs an explainer.
        FloatingPointError: Scores are NaN or infinite where parts are hidden.

    Warns:
        VisualizationWarning: There are too few random maps, or an explainer explains another layer or model than the
            one that is measured.

    Examples:
        >>> import vis
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
        >>> images = np.random.default_rng(0).normal(size=(6, 8, 8, 1))
        >>> found = evaluate({"gradient": vis.GradientTimesInput(model)}, images, 1, ["srg"], [0.0])
        >>> found.table[0]["method"], found.table[0]["verdict"]
        ('gradient', 'better than chance and edges')
    """
    explainers = studies.read_explainers(explainers)
    check_count("baselines", baselines, 1)
    options = {"input_name": input_name, "output_layer": output_layer, "logits": logits}
    model = studies.model_of(explainers, model)
    made_with = {**options, "reduce": reduce, "seed": check_count("seed", seed)}
    wanted = studies.read_metrics(metrics, fills, masks, {"model": model, **made_with})
    studies.check_askable(explainers, wanted)
    samples = studies.samples_of(model, inputs, target, check_count("batch_size", batch_size, 1), options)
    studies.warn_of_other_layers(explainers, samples)
    classes = studies.classes_of(samples)
    asked = classes if target is None and classes is not None else target
    study = studies.Study(samples, wanted, baselines, seed, inputs, asked, batch_size)
    study.check()
    names = _names(samples, classes, labels)
    found = Evaluation(
        settings={**_settings(samples, wanted, baselines, seed, reduce), **_words_options(options)},
        classes=list(zip(names, map(float, samples.clean()))),
        inputs=samples.values,
        call=_call(explainers, metrics, fills, target, baselines, seed, {**options, "reduce": reduce}),
    )
    beside = study.baseline_maps()
    study.bar = keras.utils.Progbar(study.steps(len(explainers), len(beside))) if verbose else None
    try:
        _fill(found, study, explainers, beside, read_reduction(reduce))
    except BaseException as error:
        error.evaluation = found  # type: ignore[attr-defined]
        raise
    return found


def _fill(found, study, explainers, beside, reduce):
    """Measures the baselines, then each method, and adds what is finished to an evaluation."""
    numbers = {name: study.measure(maps[None])[0] for name, maps in beside.items()}
    edges = numbers.get(studies.EDGES, {})
    for name, explainer in explainers.items():
        _add_method(found, study, name, explainer, edges, reduce)
    for name, maps in beside.items():
        found.maps[name] = maps
        for i, values in numbers[name].items():
            _add(found, study.wanted[i], name, values[0], None, verdicts.A_BASELINE, study.seed)


def _add_method(found, study, name, explainer, edges, reduce):
    is_explainer = isinstance(explainer, Explainer)
    raw = explainer(study.inputs, study.target, study.batch_size) if is_explainer else explainer
    maps = study.samples.read(raw, reduce)
    numbers, curves = study.measure(study.with_random(maps))
    asked = study.ask(explainer, raw)
    found.maps[name] = maps
    for i, one in enumerate(study.wanted):
        if i in asked:
            _add(found, one, name, asked[i], None, verdicts.NO_TEST, study.seed)
            continue
        own, random = numbers[i][0], numbers[i][1:]
        _add(found, one, name, own, random, _verdict(one, own, random, edges.get(i), study.seed), study.seed)
        if i in curves:
            found.curves[name, one.name, one.fill] = curves[i]
            found.fractions[one.name, one.fill] = one.metric.fractions


def _verdict(one, own, random, edges, seed):
    if not one.metric.says_truth:
        return verdicts.NO_TEST
    sign = 1 if one.metric.higher_is_better else -1
    return verdicts.verdict_of(sign * own, sign * random, None if edges is None else sign * edges[0], seed)


def _add(found, one, name, own, random, verdict, seed):
    """Adds one method's numbers of one metric."""
    key, higher = (name, one.name, one.fill), bool(one.metric.higher_is_better)
    found.scores[key] = own
    low, high = verdicts.interval_of(own, random, seed)
    percentile = None
    if random is not None:
        found.random[key] = random
        percentile = verdicts.percentile_of(own if higher else -own, random if higher else -random)
    of = None if low is None else "samples" if len(own) > 1 else "random maps"
    numbers = {"mean": float(own.mean()), "low": low, "high": high, "interval": of, "percentile": percentile}
    found.table.append({**_named(key, **numbers), "verdict": verdict, "higher_is_better": higher})


def _names(samples, classes, labels):
    """Returns words for what is explained of each sample."""
    if classes is None:
        return ["target"] * samples.count
    # One unit is class 1, or its negative class 0.
    names = class_names(labels, max(samples.task.goal.weights.shape[1], 2))
    return [names[number] for number in classes]


def _settings(samples, wanted, baselines, seed, reduce):
    fills = dict.fromkeys(one.fill for one in wanted if one.fill)
    return {
        "vis": sys.modules[__name__.partition(".")[0]].__version__,
        "keras": keras.version(),
        "backend": keras.backend.backend(),
        "model": samples.task.evaluator.model.name,
        "samples": samples.count,
        "metrics": ", ".join(dict.fromkeys(one.name for one in wanted)),
        "fills": ", ".join(fills) or "none",
        "random maps": baselines,
        "seed": seed,
        "channels of maps": reduce if isinstance(reduce, str) else "a function",
    }


def _words_options(options):
    """Returns what the metrics look at, in words."""
    return {
        "output layer": "the model's output" if options["output_layer"] is None else shown(options["output_layer"]),
        "score": "before a final softmax or sigmoid" if options["logits"] else "as the model puts it out",
        **({} if options["input_name"] is None else {"input": str(options["input_name"])}),
    }


def _call(explainers, metrics, fills, target, baselines, seed, options):
    """Returns the call in Python, as far as it is known."""
    usual = {"input_name": None, "output_layer": None, "logits": False, "reduce": "absolute"}
    more = "".join(f", {name}={shown(value, 60)}" for name, value in options.items() if value != usual[name])
    words = [
        f"    {name!r}: vis.{type(one).__name__}(model),"
        if isinstance(one, Explainer)
        else f"    {name!r}: maps_{i},  # the array that was given"
        for i, (name, one) in enumerate(explainers.items())
    ]
    metrics = metrics if isinstance(metrics, str) else [m if isinstance(m, str) else type(m).__name__ for m in metrics]
    what = "None" if target is None else shown(target, 60)
    settings = f"metrics={metrics!r}, fills={shown(list(fills) if isinstance(fills, (list, tuple)) else fills)}"
    return "\n".join(
        ["vis.evaluate({", *words, f"}}, inputs, target={what}, {settings}, baselines={baselines}, seed={seed}{more})"]
    )
