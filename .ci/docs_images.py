"""Makes the pictures of the documentation anew, from the examples.

`python .ci/docs_images.py` runs the examples in full and replaces `docs/images`. `--only mnist` makes those whose names
begin so; `--made FOLDER` takes what the examples have written already, each into a folder of its own name; `--into`
names another place for the pictures.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]

# What the documentation shows: the example that makes it, and the file that it writes.
PICTURES = {
    "brain_relevance.gif": ("brain/where_it_looks", "brain.gif"),
    "brain_relevance.jpg": ("brain/where_it_looks", "brain.png"),
    "characters_reads.png": ("characters/what_it_reads", "reads.png"),
    "detection_faces.jpg": ("detection/where_it_looks", "faces.png"),
    "detection_hidden.jpg": ("detection/where_it_looks", "hidden.png"),
    "features_activation_grid.jpg": ("features/activation_grid", "activation_grid.jpg"),
    "features_animation.gif": ("features/animation", "animation.gif"),
    "features_caricature.jpg": ("features/caricature", "caricature.jpg"),
    "features_classes.jpg": ("features/classes", "classes.jpg"),
    "features_compare.jpg": ("features/compare", "compare.jpg"),
    "features_deep_dream.jpg": ("features/deep_dream", "deep_dream.jpg"),
    "features_digits.jpg": ("features/ten_digits", "ten_digits.jpg"),
    "features_diversity.jpg": ("features/diversity", "diversity.jpg"),
    "features_filters.jpg": ("features/filters", "filters.jpg"),
    "features_hero.jpg": ("features/hero", "hero.jpg"),
    "features_inversion.jpg": ("features/inversion", "inversion.jpg"),
    "features_rescue.jpg": ("features/rescue", "rescue.jpg"),
    "imagenet_atlas.jpg": ("imagenet/atlas", "atlas.png"),
    "imagenet_concepts.jpg": ("imagenet/what_it_knows", "concepts.png"),
    "imagenet_gallery.jpg": ("imagenet/gallery", "gallery.png"),
    "imagenet_measured.png": ("imagenet/measure_photos", "measured.png"),
    "imagenet_relevance.jpg": ("imagenet/gallery", "relevance.png"),
    "imagenet_sanity_check.jpg": ("imagenet/sanity_check", "sanity_check.png"),
    "mnist_activation_maximization.png": ("mnist/activation_maximization", "maximised_ten_digits.png"),
    "mnist_atlas.jpg": ("mnist/digit_atlas", "atlas.png"),
    "mnist_cam.png": ("mnist/attention", "cam_ten_digits.png"),
    "mnist_hero.png": ("mnist/activation_maximization", "side_by_side.png"),
    "mnist_know_the_network.png": ("mnist/measure_digits", "know_the_network.png"),
    "mnist_measured.png": ("mnist/measure_digits", "measured.png"),
    "mnist_optimisation.gif": ("mnist/activation_maximization", "optimisation.gif"),
    "mnist_relevance.png": ("mnist/attention", "relevance_ten_digits.png"),
    "mnist_saliency.png": ("mnist/attention", "saliency_ten_digits.png"),
    "mnist_training.gif": ("mnist/watch_training", "training/epochs.gif"),
    "mnist_tv_sweep.png": ("mnist/activation_maximization", "maximised_tv_sweep.png"),
    "segmentation_edge.jpg": ("segmentation/what_decides_the_edge", "edge.png"),
    "segmentation_reach.png": ("segmentation/what_decides_the_edge", "reach.png"),
    "steering_attribution.png": ("steering/steering", "steering_attribution.png"),
    "steering_cam.png": ("steering/steering", "steering_cam.png"),
    "steering_edits.png": ("steering/steering", "steering_edits.png"),
    "steering_saliency.png": ("steering/steering", "steering_saliency.png"),
    "steering_signed.png": ("steering/steering", "steering_signed.png"),
    "tabular_all_patients.png": ("tabular/explain_patients", "all_patients.png"),
    "tabular_one_patient.png": ("tabular/explain_patients", "one_patient.png"),
    "text_deletion.png": ("text/deletion", "deletion.png"),
    "text_heads.png": ("text/attention_heads", "heads.png"),
    "text_similar.png": ("text/similar_sentences", "similar.png"),
    "text_telling_heads.png": ("text/attention_heads", "telling_heads.png"),
    "vit_heads.jpg": ("vit/what_it_attends", "heads.png"),
    "vit_places.jpg": ("vit/what_it_attends", "places.png"),
}


def make(example, file, made):
    """Returns what an example wrote; runs it in full, if it has not run yet. Two examples may have one name."""
    folder = made / pathlib.Path(example).name
    if not (folder / file).exists():
        command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), "--output", str(folder)]
        subprocess.run(command, check=True)
    return folder / file


def publish(source, target):
    """Copies a picture; into a JPEG, if the name asks for one."""
    if source.suffix == target.suffix:
        shutil.copyfile(source, target)
        return
    with Image.open(source) as picture:
        picture.convert("RGB").save(target, quality=85)


def main(arguments=None):
    """Makes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="beginning of the pictures' names")
    parser.add_argument("--made", type=pathlib.Path, help="folder with what the examples wrote")
    parser.add_argument("--into", type=pathlib.Path, default=ROOT / "docs" / "images", help="folder for the pictures")
    options = parser.parse_args(arguments)
    chosen = {name: source for name, source in PICTURES.items() if name.startswith(options.only)}
    if not chosen:
        parser.error(f"--only must begin one of: {', '.join(PICTURES)}")
    if options.made:
        missing = [f"{example.split('/')[1]}/{file}" for example, file in chosen.values()]
        missing = [name for name in missing if not (options.made / name).is_file()]
        if missing:
            parser.error(f"--made must be a folder with what the examples write. There is no: {', '.join(missing)}")
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fresh:
        for name, (example, file) in chosen.items():
            publish(make(example, file, options.made or pathlib.Path(fresh)), options.into / name)
            print(f"made {options.into / name}", flush=True)


if __name__ == "__main__":
    main()
