"""What users write, as the documentation shows it: mypy reads this strictly, nothing runs it.

An annotation that refuses a documented use, or a public function without one, is an error here. So is one that has
become so wide that it lets a wrong use pass: `type: ignore` must have something to ignore.
"""

import pathlib
from typing import Any

import keras
import numpy as np

import vis
from vis import (
    backprop_modifiers,
    callbacks,
    detectors,
    grad_modifiers,
    input_modifiers,
    losses,
    parameterizations,
    plotting,
    regularizers,
    scale,
    targets,
)
from vis.backprop_modifiers import Composite, Epsilon, Half, Identity
from vis.losses import ActivationMaximization
from vis.optimizer import Optimizer
from vis.utils import utils
from vis.utils.tokens import join_pieces
from vis.visualization import activations, get_num_filters


def best_of(outputs: Any) -> Any:
    """A target of the user's own."""
    return keras.ops.max(outputs, axis=-1)


def ways_to_name_a_layer(model: keras.Model, images: np.ndarray) -> None:
    vis.GradCAM(model)(images)
    vis.GradCAM(model, "backbone/conv1")
    vis.GradCAM(model, -3)
    vis.GradCAM(model, model.layers[0])
    vis.GradCAM(model, keras.layers.Conv2D(2, 3))
    vis.GradCAM(model, ("shared", 1), upsample=False, output_layer=-1, reshape="tokens")
    vis.Saliency(model, input_layer=("embedding", 0), output_layer="head")
    activations(model, "conv1", images, batch_size=8).mean(axis=0)


def ways_to_name_a_target(model: keras.Model, images: np.ndarray, mask: np.ndarray) -> None:
    explainer = vis.Saliency(model)
    explainer(images)
    explainer(images, 3)
    explainer(images, target=[0, 2])
    explainer(images, target="tabby cat")
    explainer(images, target=["tabby cat", "espresso"])
    explainer(images, target=[[0, 1], [2]])
    explainer(images, target=range(2))
    explainer(images, target=np.array([0, 2]))
    explainer(images, target=np.argmax(model.predict(images), axis=-1))
    explainer(images, target=np.int64(3))
    explainer(images, target=best_of)
    explainer(images, target=lambda outputs: outputs["logits"][:, 0])
    explainer(images, targets.Contrast(2, [0, 1]))
    explainer(images, targets.Similarity([0.0, 5.0], output="embedding"))
    explainer(images, targets.Region(mask, channel=1))
    decode = detectors.Anchors(np.ones((3, 4)), (64, 64), "center_xywh")
    explainer(images, targets.Box([8, 8, 24, 24], [1, 2], decode, "xyxy", (64, 64), gradient_of="similarity"))
    explainer(images, targets.Box([0.1, 0.1, 0.5, 0.5], np.eye(3)[:1], detectors.d_fine))
    explainer(images, targets.NextToken(7, position=-2, log_probability=True))
    explainer(images, targets.Target(lambda outputs, rows: keras.ops.sum(outputs * rows, axis=-1), np.zeros((4, 3))))


def ways_to_give_inputs(model: keras.Model, images: np.ndarray) -> None:
    explainer = vis.IntegratedGradients(model, steps=20, baseline=0.5)
    explainer([images, images], batch_size=64, verbose=1)
    explainer((images, images))
    maps = explainer({"image": images, "mask": np.ones((1, 8))})
    maps["image"].max()
    explainer([[1.0, 2.0, 3.0]])
    explainer(keras.ops.convert_to_tensor(images))
    vis.IntegratedGradients(model, baseline={"image": 0.0, "mask": np.zeros(8)})
    vis.Occlusion(model, patch=(4, 4), stride=2, baseline=images[0], input_name="image")
    vis.Occlusion(model, 8, input_name=0)


def explainers(model: keras.Model, images: np.ndarray) -> None:
    for explain in (vis.GradCAMPlusPlus, vis.LayerCAM, vis.HiResCAM, vis.XGradCAM, vis.AblationCAM, vis.ScoreCAM):
        explain(model, "conv1")(images, 1).max()
    vis.EigenCAM(model, "conv1")(images)
    vis.GuidedGradCAM(model, "conv1")(images)
    vis.GradientTimesInput(model)(images)
    vis.SmoothGrad(model, 20, 0.1, statistic="variance", seed=0)(images)
    means, errors = vis.ExpectedGradients(model, images, 20, seed=0).with_error(images, 1)
    vis.ExpectedGradients(model, {"image": images, "mask": np.zeros((4, 8))})(images)
    vis.BlurIntegratedGradients(model, 20, max_sigma=4)(images)
    vis.GuidedIntegratedGradients(model, 20, 0.5, max_distance=0.1, baseline=0.5)(images)
    vis.FullGrad(model, input_name="image").parts(images, [1, 2])["inputs"].sum()
    vis.XRAI(model, np.zeros((8, 8), int), steps=5)(images, 1).max()
    vis.RISE(model, num_masks=100, grid=4, probability=0.3, seed=0)(images)
    vis.RISE(model, seed=0).until(0.02).with_error(images)
    maps = vis.Saliency(model, "guided", logits=False)(images)
    picture: np.ndarray = vis.heatmap(maps, reduce="mean", sign="signed", percentile=98, channel_axis=-1)
    vis.overlay(picture, images, alpha=0.3)
    print(vis.GradCAM(model).layer, maps.shape, maps[0].tolist())


def text(model: keras.Model, ids: np.ndarray) -> None:
    vis.Saliency(model, input_layer="tokens")({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    vis.IntegratedGradients(model, baseline=103, input_layer="tokens")(ids)
    vis.DeepLIFT(model, baseline=[0, 0, 0], input_layer="tokens")(ids)
    explainer = vis.GradientTimesInput(model, input_layer="tokens")
    matrix: np.ndarray = vis.attribute_tokens(explainer, ids, prompt_length=4, batch_size=8)
    vis.attribute_tokens(explainer, {"token_ids": [1, 2, 3], "padding_mask": [1, 1, 1]}, 2)
    words, values = join_pieces(["un", "##able"], matrix[:, :2], reduce="max")
    print(words[0].upper(), values.max())


def data_sets(model: keras.Model, images: np.ndarray, data: keras.utils.PyDataset) -> None:
    explainer = vis.Saliency(model)
    for maps in explainer.stream([(images, [0, 1]), images], target=best_of):
        print(maps.shape)
    next(explainer.stream(data, target=3, batch_size=8, prefetch=0))
    explainer.targets(images, [0, [1, 2], None, "tabby", best_of], batch_size=8)
    print(explainer.stream(data, "labels", into="maps.npy").mean(axis=0).shape)
    scale.start(workers=2)
    scale.explain(explainer, images, "maps", target=best_of, num_gpus=1)
    print(scale.read("maps", len(images))[0].shape)


def backward_rules(model: keras.Model, images: np.ndarray) -> None:
    vis.Saliency(model, Epsilon())
    vis.Saliency(model, lambda x, y, upstream: upstream * (x > 0))
    vis.Saliency(model, backprop_modifiers.guided)
    rules = Composite(
        [
            ("activation", Identity()),
            ("backbone/conv*", Half()),
            (keras.layers.Dense, "guided"),
            (lambda path, operation: path == "head", Epsilon()),
        ]
    )
    for path, part, name in vis.GradientTimesInput(model, rules).rules(images):
        print(path + part + name)
    keras.Model.summary(backprop_modifiers.modify(model, "guided"))


def images_of_features(model: keras.Model, image: np.ndarray) -> None:
    loss = ActivationMaximization("conv1", [0, 1]) + 0.5 * losses.DeepDream(-1) - losses.Diversity(model.layers[0]) / 2
    loss = 2 * (loss + -losses.Neuron("conv1", 3, position=(2, 2)))
    vis.FeatureVisualization(model, loss)(num_images=2, steps=10, seed=0, callbacks=[callbacks.Print(every=5)])
    visualization = vis.FeatureVisualization(
        model,
        losses.Caricature("conv1", image),
        parameterization=parameterizations.MagnitudeConstrained(parameterizations.spectrum_of(image[None])),
        transforms=[input_modifiers.Pad(4), input_modifiers.Jitter([2, 3]), input_modifiers.Crop(0.9)],
        regularizers=[(regularizers.TotalVariation(None), 0.1), (regularizers.LPNorm(None, p=6), 1)],
        optimizer=keras.optimizers.Adam(0.05),
        input_range=(-1, 1),
    )
    images = visualization.many([1, 2, 3], seed_input=image, callbacks=callbacks.GifGenerator("film.gif"))
    images.mean(axis=0)
    visualization.history["TV Loss"].sum()
    vis.FeatureVisualization(model, ActivationMaximization(-1, None), transforms=[], parameterization=None)


class Count(callbacks.OptimizerCallback):
    """A callback of the user's own."""

    every = 10

    def callback(self, i: int, named_losses: Any, overall_loss: float, grads: Any, wrt_value: Any) -> None:
        print(i, overall_loss)


class Energy(losses.Loss):
    """A loss of the user's own."""

    def __init__(self, layer: keras.Layer) -> None:
        super().__init__()
        self.name, self.layer = "energy", layer

    def build_loss(self) -> Any:
        return keras.ops.sum(keras.ops.square(self.layer.output))


class Darken(input_modifiers.Transform):
    """A transform of the user's own."""

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> list[float]:
        return [generator.uniform(0.5, 1)]

    def apply(self, images: Any, numbers: Any) -> Any:
        return images * numbers[0]


class Doubled(vis.GradCAM):
    """A method of the user's own."""

    @staticmethod
    def formula(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        return 2 * vis.GradCAM.formula(activations, gradients)


def names_of_keras_vis(model: keras.Model, image: np.ndarray) -> np.ndarray:
    linear = utils.swap_softmax(model)
    index = utils.find_layer_idx(linear, "preds")
    vis.visualize_saliency(linear, index, 3, image, backprop_modifier="guided", grad_modifier="relu", keepdims=True)
    vis.visualize_saliency(linear, "preds", [0, 1], image[None], wrt_tensor=model.layers[1].output, grad_modifier=None)
    vis.visualize_cam(linear, -1, None, image, penultimate_layer_idx="conv1", grad_modifier=grad_modifiers.negate)
    vis.visualize_activation(linear, -1, 2, input_range=(0.0, 1.0), tv_weight=None, max_iter=10, verbose=True)
    weighted = [(ActivationMaximization(model.layers[-1], 0), -1), (regularizers.TotalVariation(model.input), 0.5)]
    vis.visualize_saliency_with_losses(model.input, weighted, image)
    vis.visualize_cam_with_losses(model, [(Energy(model.layers[0]), 1)], image, model.layers[0])
    vis.visualize_activation_with_losses(model.inputs[0], weighted, seed_input=image, seed=3)
    best, gradient, value = Optimizer(model, weighted, input_range=(0, 255), norm_grads=False).minimize(
        max_iter=5, input_modifiers=[input_modifiers.Jitter(0.05), Darken()], callbacks=[Count()], verbose=False
    )
    print(get_num_filters(model.layers[0]) + 1, utils.lookup_imagenet_labels(281)[0].upper(), gradient, value)
    grid = utils.stitch_images([best, utils.load_img("cat.jpg", target_size=(224, 224))], margin=2)
    return best if grid is None else grid


def pictures(model: keras.Model, images: np.ndarray, folder: pathlib.Path) -> None:
    maps = vis.GradCAM(model)(images)
    plotting.overlay(images, maps, "inferno", alpha=0.4).astype("float32")
    plotting.show_attribution(images[0], maps[0], title="a cat").savefig(folder / "cat.png")
    plotting.gallery(images, {"Grad-CAM": maps}, labels=["cat", "dog"], titles={"Grad-CAM": [0.9, 0.1]}).suptitle("all")
    plotting.gallery(images, {"Grad-CAM": maps}, scores={"Grad-CAM": np.zeros(2)})
    plotting.show_signal(np.zeros(9), [0.5] * 9, names=["left"])
    print(plotting.show_text(["not", "good"], [-1.0, 0.5]).lower())
    plotting.show_token_matrix(np.zeros((1, 2)), ["not", "good"], rows=["good"]).savefig(folder / "tokens.png")
    print(plotting.show_token_matrix_html([[0.5, 0.0]], ["not", "good"]).upper())
    plotting.show_volume(images[..., 0], maps, slices=4)
    plotting.show_feature_maps(activations(model, 0, images)[0], columns=4)
    plotting.save_gif(list(images), folder / "film.gif", fps=12.5)
    plotting.show(images[0], maps[0], alpha=0.3)


def training(model: keras.Model, images: np.ndarray) -> None:
    logger = vis.ExplanationLogger(
        images,
        {"Grad-CAM": vis.GradCAM, "last": lambda model: vis.Saliency(model, output_layer=-1)},
        "epochs",
        target=[0, 1],
        epochs=range(0, 10, 2),
        labels=["cat", "dog"],
        tensorboard=pathlib.Path("logs"),
        metric="srg",
    )
    vis.ExplanationLogger(images, {"Grad-CAM": vis.GradCAM}, "epochs", metric=vis.metrics.SRG)
    vis.ExplanationLogger(
        images, {"Grad-CAM": vis.GradCAM}, "epochs", metric=lambda model: vis.metrics.SRG(model, fill=0.0)
    )
    print(logger.scores[0]["Grad-CAM"].mean())
    model.fit(images, images, callbacks=[logger])
    print([path.name for path in logger.paths])


def wrong_uses(model: keras.Model, images: np.ndarray) -> None:
    vis.Saliency("model.keras")  # type: ignore[arg-type]
    vis.GradCAM(model, 0.5)  # type: ignore[arg-type]
    vis.GradCAM(model, ("conv1", "conv2"))  # type: ignore[arg-type]
    vis.GradCAM(model, upsample=None)  # type: ignore[arg-type]
    vis.Saliency(model)(images, target=1.5)  # type: ignore[arg-type]
    vis.Saliency(model)(images, batch_size=None)  # type: ignore[arg-type]
    vis.Saliency(model)(None)  # type: ignore[arg-type]
    vis.Saliency(model, 3)  # type: ignore[arg-type]
    vis.Saliency(model)(images).no_such_method()  # type: ignore[union-attr]
    vis.Saliency(model).stream(images, target=[0, 1])  # type: ignore[call-overload]
    vis.heatmap(None)  # type: ignore[arg-type]
    vis.FeatureVisualization(model, "conv1")  # type: ignore[arg-type]
    ActivationMaximization("conv1", 0.5)  # type: ignore[arg-type]
    losses.DeepDream("conv1") + 1.5  # type: ignore[operator]
    vis.visualize_saliency(model, -1, 3, images, grad_modifier=2)  # type: ignore[arg-type]
    vis.visualize_activation_with_losses(model.input, [losses.DeepDream("conv1")])  # type: ignore[list-item]
    vis.ExplanationLogger(images, vis.GradCAM, "epochs")  # type: ignore[arg-type]
    plotting.gallery(images, [images])  # type: ignore[arg-type]
