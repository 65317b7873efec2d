"""What makes a network steer: maps of a regression, and edits of the pictures that test the maps.

Draws roads, trains a small network to read the steering angle off them (a minute or two), then writes pictures into
`output/` and prints what happens to the angle when the places that the maps point at are changed. All of it takes
some minutes.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from roads import SHAPE, draw, parse_options, parts, predict, random_roads, random_scene, train

import vis
from vis.visualization import overlay, visualize_cam, visualize_saliency

ANGLES = {"left": -0.7, "straight": 0.0, "right": 0.7}
MODIFIERS = {"None": None, "negate": "negate", "small_values": "small_values"}
LAYER = "relu4"  # the last feature map; without a name, visualize_cam would take the convolution before it
SHOWN_SEED, TEST_SEED, EDIT_SEED = 11, 99, 5
BOX = 16  # side of what is erased, in pixels
NUDGE = 0.1  # by how much pixels are brightened
BRIGHTEST = 5  # per cent of the pixels that are brightened
FAR = 1 / 3  # the part of the ground's height, from the horizon down, that is called far


def saliency_maps(model, images, modifier, backprop_modifier=None):
    """Returns keras-vis's saliency maps of the angle, `(N, H, W)` in [0, 1]."""
    maps = visualize_saliency(
        model, "angle", 0, images, backprop_modifier=backprop_modifier, grad_modifier=MODIFIERS[modifier]
    )
    return np.reshape(maps, images.shape[:3])


def cam_maps(model, images, modifier):
    """Returns keras-vis's class activation maps of the angle, `(N, H, W)` in [0, 1]."""
    maps = visualize_cam(model, "angle", 0, images, penultimate_layer_idx=LAYER, grad_modifier=MODIFIERS[modifier])
    return np.reshape(maps, images.shape[:3])


def signed_cam(model, images, upsample=True):
    """Returns class activation maps with their sign: right is positive, left is negative.

    Of one unit, target 1 is the output and target 0 its negative.
    """
    explainer = vis.GradCAM(model, LAYER, upsample=upsample)
    return explainer(images, 1) - explainer(images, 0)


def shares_of(model, images):
    """Returns signed maps `(N, H, W)` of the angle by three methods, in a dict."""
    return {
        "saliency": vis.Saliency(model)(images, 1).sum(axis=-1),
        "integrated gradients": vis.IntegratedGradients(model, baseline=0.5)(images, 1).sum(axis=-1),
        "signed Grad-CAM": signed_cam(model, images),
    }


# Pictures


def bytes_of(image):
    """Returns an image with values in [0, 1] as bytes."""
    return np.round(255 * image).astype("uint8")


def colour(values, name):
    """Returns a map of values in [0, 1] as an RGB picture."""
    return matplotlib.colormaps[name](values, bytes=True)[..., :3]


def draw_grid(rows, titles, labels=(), size=1.6):
    """Returns a figure with a grid of RGB pictures.

    Args:
        rows: List of rows, each a list of pictures.
        titles: Words above the columns, or a list of such words for each row.
        labels: Words to the left of the rows. Default: none.
        size: Width of a picture in inches. Default 1.6.
    """
    shape = (len(rows), len(rows[0]))
    every = not isinstance(titles[0], str)
    height = size * (0.85 if every else 0.68)
    figure, axes = plt.subplots(
        *shape, figsize=(shape[1] * size + 0.8, shape[0] * height + 0.4), squeeze=False, layout="compressed"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for axis, picture in zip(axes.flat, [picture for row in rows for picture in row]):
        axis.imshow(picture, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for line, words in zip(axes, titles if every else [titles]):
        for axis, title in zip(line, words):
            axis.set_title(title, fontsize=9)
    for axis, label in zip(axes[:, 0], labels):
        axis.set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
    return figure


def save(figure, path, dpi=110):
    """Writes a figure, closes it and tells where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)
    print(f"wrote {path}")


def draw_saliency(model, images, labels):
    """Draws saliency by each gradient modifier, and two by guided backpropagation."""
    columns = {f"{name}\nvanilla": colour(saliency_maps(model, images, name), "gray") for name in ("None", "negate")}
    columns["small_values\nvanilla"] = colour(saliency_maps(model, images, "small_values"), "inferno")
    columns |= {
        f"{name}\nguided": colour(saliency_maps(model, images, name, "guided"), "gray") for name in ("None", "negate")
    }
    rows = zip(bytes_of(images), *columns.values())
    return draw_grid([list(row) for row in rows], ["road", *columns], labels)


def draw_cam(model, images, labels):
    """Draws class activation maps by each gradient modifier over the roads."""
    columns = [
        [overlay(colour(one, "inferno"), bytes_of(image), alpha=0.6) for one, image in zip(maps, images)]
        for maps in (cam_maps(model, images, name) for name in MODIFIERS)
    ]
    rows = zip(bytes_of(images), *columns)
    return draw_grid([list(row) for row in rows], ["road", *MODIFIERS], labels)


# Edits


def box_sums(maps, side=BOX):
    """Returns the sum of each map `(N, H, W)` in each box `side` x `side`, `(N, H - side + 1, W - side + 1)`."""
    sums = np.pad(np.cumsum(np.cumsum(maps, axis=1, dtype="float64"), axis=2), ((0, 0), (1, 0), (1, 0)))
    return sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]


def best_boxes(scores):
    """Returns the first rows and columns of the boxes with the highest scores, `(N, 2)`."""
    flat = scores.reshape(len(scores), -1).argmax(axis=1)
    return np.stack(np.unravel_index(flat, scores.shape[1:]), axis=-1)


def erase(images, fills, boxes, side=BOX):
    """Returns images whose boxes come from `fills`."""
    edited = images.copy()
    for one, fill, (row, column) in zip(edited, fills, boxes):
        one[row : row + side, column : column + side] = fill[row : row + side, column : column + side]
    return edited


def road_alike(amounts, boxes):
    """Returns which boxes hide at least 80 % as much of the road as the given ones.

    Args:
        amounts: Sums of what an edit would change, from `box_sums`.
        boxes: From `best_boxes`.
    """
    own = amounts[np.arange(len(boxes)), boxes[:, 0], boxes[:, 1]]
    return amounts >= 0.8 * own[:, None, None]


def choose_boxes(model, images, fills, mean_map):
    """Returns boxes that the maps name, and others that hide as much of the road, in a dict.

    Args:
        model: The network.
        images: The roads.
        fills: The same landscapes without a road.
        mean_map: The mean signed map of many roads, `(H, W)`, which tells what all roads share.
    """
    signed = signed_cam(model, images)
    own = box_sums(signed - mean_map)
    sums = {name: box_sums(cam_maps(model, images, name)) for name in MODIFIERS}
    boxes = {f"brightest of {name}": best_boxes(values) for name, values in sums.items()}
    boxes |= {"most right of the mean": best_boxes(own), "most left of the mean": best_boxes(-own)}
    amounts = box_sums(np.abs(images - fills).sum(axis=-1))
    alike = road_alike(amounts, boxes["brightest of None"]) & road_alike(amounts, boxes["brightest of negate"])
    weak = np.abs(box_sums(signed))
    noise = np.random.default_rng(EDIT_SEED).random(alike.shape)
    boxes["weakest with as much road"] = best_boxes(np.where(alike, -weak, -np.inf))
    boxes["any with as much road"] = best_boxes(np.where(alike, noise, -np.inf))
    return boxes


def report(name, change, expected=0):
    """Prints how the angle changed.

    Args:
        name: What was done.
        change: Changes, `(N,)`.
        expected: The sign that the map foretells. Default 0: none.
    """
    right = f"{100 * np.mean(np.sign(change) == expected):4.0f} %" if expected else "    --"
    print(f"  {name:32s} {change.mean():+.3f} +- {change.std():.3f}   |change| {np.abs(change).mean():.3f}   {right}")


def landscapes(angles, scenes):
    """Returns the pictures of some scenes without their roads."""
    return np.stack([draw(angle, scene, ("road", "edges", "centre")) for angle, scene in zip(angles, scenes)])


def try_boxes(model, images, scenes, angles, mean_map):
    """Erases the road in boxes and prints how the angle changed."""
    fills = landscapes(angles, scenes)
    before, boxes = predict(model, images), choose_boxes(model, images, fills, mean_map)
    signs = {
        "brightest of None": -1,
        "brightest of negate": 1,
        "most right of the mean": -1,
        "most left of the mean": 1,
    }
    hidden = box_sums(np.abs(images - fills).sum(axis=-1) > 0.1)
    for what, material in (("grass and sky in place of the road", fills), ("blurred", blur(images))):
        print(f"erase {BOX} x {BOX} pixels: {what}")
        for name, own in boxes.items():
            print(f"  {hidden[np.arange(len(own)), own[:, 0], own[:, 1]].mean():3.0f} of road:", end="")
            report(name, predict(model, erase(images, material, own)) - before, signs.get(name, 0))
    starts = np.array(images.shape[1:3]) * (1 / 2, 2 / 3)
    corner = np.all(boxes["brightest of negate"] >= starts, axis=1).mean()
    print(
        f"  the brightest of negate lies in the lower half of the right third in {100 * corner:.0f} % of the pictures"
    )


def blur(images):
    """Returns images blurred so much that no line is left."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, sigma=(0, 6, 6, 0))


def try_nudges(model, images):
    """Brightens the brightest pixels of the saliency maps a little and prints the changes."""
    print(f"add {NUDGE} to {BRIGHTEST} % of the pixels")
    before = predict(model, images)
    maps = {f"{name}, vanilla": saliency_maps(model, images, name) for name in MODIFIERS}
    maps |= {f"{name}, guided": saliency_maps(model, images, name, "guided") for name in ("None", "negate")}
    maps["any pixels"] = np.random.default_rng(EDIT_SEED).random(images.shape[:3])
    for name, values in maps.items():
        chosen = values >= np.percentile(values, 100 - BRIGHTEST, axis=(1, 2), keepdims=True)
        nudged = np.clip(images + NUDGE * chosen[..., None], 0, 1)
        expected = {"None": 1, "negate": -1}.get(name.split(",")[0], 0)
        report(name, predict(model, nudged) - before, expected)


def is_far(scene):
    """Returns which rows are ground near the horizon, `(H, 1)`."""
    height = (np.arange(SHAPE[0])[:, None] + 0.5) / SHAPE[0]
    depth = (height - scene["horizon"]) / (1 - scene["horizon"])
    return (depth > 0) & (depth < FAR)


def redrawn(angle, scene, other):
    """Returns one road drawn again with one thing changed each, in a dict of pictures."""
    picture, straight, far = draw(angle, scene), draw(0.0, scene), is_far(scene)[..., None]

    def with_other(*names):
        return draw(angle, scene | {name: other[name] for name in names})

    return {
        "far third straight": np.where(far, straight, picture),
        "near two thirds straight": np.where(far, picture, straight),
        "no edge lines": draw(angle, scene, ("edges",)),
        "no centre line": draw(angle, scene, ("centre",)),
        "no lines": draw(angle, scene, ("edges", "centre")),
        "other sky, clouds and trees": with_other("sky", "clouds", "trees"),
        "other grass and bushes": with_other("grass", "bushes"),
        "other tarmac": with_other("road"),
        "other place in the lane": with_other("offset", "heading"),
        "other light": with_other("light"),
    }


def try_redrawn(model, images, scenes, angles):
    """Draws each road again with one thing changed, and prints how the angle changed."""
    print("draw again with one thing changed")
    generator = np.random.default_rng(EDIT_SEED)
    edited = [redrawn(angle, scene, random_scene(generator)) for angle, scene in zip(angles, scenes)]
    before = predict(model, images)
    for name in edited[0]:
        report(name, predict(model, [one[name] for one in edited]) - before)
    for name in ("far third straight", "near two thirds straight"):
        change = predict(model, [one[name] for one in edited]) - before
        taken = -np.sum(change * before) / np.sum(before**2)
        print(f"  {name}: takes away {100 * taken:.0f} % of the angle")


def print_shares(model, images, scenes, angles):
    """Prints which part of each map's strength lies on which part of the picture."""
    masks = [_regions(angle, scene) for angle, scene in zip(angles, scenes)]
    names = list(masks[0])
    print("share of the strength, in per cent:", ", ".join(names))
    area = np.ones(images.shape[:3])
    for method, maps in ({"area": area} | shares_of(model, images)).items():
        strength = np.abs(maps)
        parts_of = [[strength[i][one[name]].sum() / strength[i].sum() for name in names] for i, one in enumerate(masks)]
        print(f"  {method:22s}", *(f"{100 * value:5.1f}" for value in np.mean(parts_of, axis=0)))


def _regions(angle, scene):
    """Returns masks that together cover the picture once."""
    found, far = parts(angle, scene), is_far(scene)
    sky = found["sky"]
    edges = found["edges"] & ~sky
    centre = found["centre"] & ~edges & ~sky
    tarmac = found["road"] & ~edges & ~centre & ~sky
    rest = ~(sky | edges | centre | tarmac)
    masks = {"sky": sky, "far grass": rest & far, "near grass": rest & ~far}
    for name, mask in (("edge lines", edges), ("centre line", centre), ("tarmac", tarmac)):
        masks |= {f"far {name}": mask & far, f"near {name}": mask & ~far}
    return masks


def check_sums(model, images):
    """Prints how nearly the cells of the signed map add up to the angle."""
    cells = signed_cam(model, images, upsample=False)
    bias = float(np.asarray(model.get_layer("angle").get_weights()[1])[0])
    error = np.abs(cells.sum(axis=(1, 2)) + bias - predict(model, images)).max()
    print(f"signed Grad-CAM: the cells and the bias {bias:+.3f} add up to the angle within {error:.1e}")


def compare_guided(model, images):
    """Prints how alike the guided maps of the angle and of its negative are."""
    explainer = vis.Saliency(model, "guided")
    pairs = zip(explainer(images, 1), explainer(images, 0))
    alike = np.mean([np.corrcoef(up.ravel(), down.ravel())[0, 1] for up, down in pairs])
    print(f"guided backpropagation: correlation of the maps of the angle and of its negative {alike:+.2f}")


def draw_edits(model, images, fills, boxes, labels):
    """Draws the roads with their boxes erased, and the angles above them."""
    columns = [images] + [erase(images, fills, own) for own in boxes.values()]
    names = ["road", *boxes]
    angles = [predict(model, column) for column in columns]
    titles = [
        [f"{name if not i else ''}\n{own[i]:+.2f}".strip() for name, own in zip(names, angles)]
        for i in range(len(images))
    ]
    rows = [[bytes_of(column[i]) for column in columns] for i in range(len(images))]
    return draw_grid(rows, titles, labels, size=1.7)


def shown_roads():
    """Returns the roads of the pictures: `(images, scenes)`, three angles in three scenes."""
    generator = np.random.default_rng(SHOWN_SEED)
    scenes = [random_scene(generator) for _ in ANGLES]
    return np.stack([draw(angle, scene) for angle, scene in zip(ANGLES.values(), scenes)]), scenes


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    model = train(options.output / "steering.keras", quick=options.quick, retrain=options.retrain)
    images, angles, scenes = random_roads(16 if options.quick else 500, TEST_SEED)
    error = predict(model, images) - angles
    print(f"{len(images)} test roads: mean error {np.abs(error).mean():.3f}, largest {np.abs(error).max():.3f}")
    print(f"  the mean angle for all would be wrong by {np.abs(angles - angles.mean()).mean():.3f}")

    shown, shown_scenes = shown_roads()
    found = predict(model, shown)
    labels = [f"{name} {angle:+.1f}\nread {one:+.2f}" for (name, angle), one in zip(ANGLES.items(), found)]
    save(draw_saliency(model, shown, labels), options.output / "steering_saliency.png")
    save(draw_cam(model, shown, labels), options.output / "steering_cam.png")
    figure = vis.plotting.gallery(shown, shares_of(model, shown), labels, size=1.1)
    save(figure, options.output / "steering_signed.png", dpi=80)
    right = vis.IntegratedGradients(model, baseline=0.5)(shown[-1:], 1)[0].sum(axis=-1)
    save(
        vis.plotting.show_attribution(shown[-1], right, title="right"),
        options.output / "steering_attribution.png",
        dpi=80,
    )

    check_sums(model, images)
    compare_guided(model, images)
    print_shares(model, images, scenes, angles)
    print("change of the angle: mean +- spread, mean size, share with the sign that the map foretells")
    try_nudges(model, images)
    mean_map = signed_cam(model, images).mean(axis=0)
    try_boxes(model, images, scenes, angles, mean_map)
    try_redrawn(model, images, scenes, angles)
    fills = landscapes(ANGLES.values(), shown_scenes)
    boxes = choose_boxes(model, shown, fills, mean_map)
    save(draw_edits(model, shown, fills, boxes, labels), options.output / "steering_edits.png")


if __name__ == "__main__":
    main()
