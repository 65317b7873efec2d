"""One small network of each family of keras.applications, with random weights."""

import keras
import numpy as np

SEED = 7


def images(size, count=3):
    light = np.linspace(0.2, 2, count).reshape(-1, 1, 1, 1)  # each with a brightness of its own
    return (light * np.random.default_rng(SEED).random((count, size, size, 3))).astype("float32")


def _classifier(make, size=64, **options):
    def build():
        model = make(weights=None, input_shape=(size, size, 3), classes=5, **options)
        return model, images(size)

    return build


_all = keras.applications
mobilenet = _classifier(_all.MobileNet, alpha=0.25)
mobilenet_v2 = _classifier(_all.MobileNetV2, alpha=0.35)
mobilenet_v3 = _classifier(_all.MobileNetV3Small, alpha=0.75, minimalistic=True)
efficientnet = _classifier(_all.EfficientNetB0)
efficientnet_v2 = _classifier(_all.EfficientNetV2B0)
convnext = _classifier(_all.ConvNeXtTiny)
resnet = _classifier(_all.ResNet50)
resnet_v2 = _classifier(_all.ResNet50V2)
vgg = _classifier(_all.VGG16)
densenet = _classifier(_all.DenseNet121)
nasnet = _classifier(_all.NASNetMobile)
xception = _classifier(_all.Xception, 96)
inception = _classifier(_all.InceptionV3, 128)
inception_resnet = _classifier(_all.InceptionResNetV2, 128)
