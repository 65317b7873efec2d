"""The real architectures, and what is right for each: a table that the tests hold the library to."""

import dataclasses
from collections.abc import Callable

from keras import ops, tree

from zoo import applications, hub, packages


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Args:
        make: Function that returns `(model, inputs)`.
        layer: The layer that a person would choose for a class activation map, without the numbers that
            Keras adds to names.
        shape: Size of its map.
        target: What is explained.
        quick: Whether it belongs to the subset that runs everywhere.
        embedding: Whether it begins with token ids, so that attributions are made at their embedding.
        branches: Whether the score also comes by a way around the layer, and that is said.
    """

    make: Callable
    layer: str
    shape: tuple
    target: object = 1
    quick: bool = False
    embedding: bool = False
    branches: bool = False

    @property
    def name(self):
        return f"{self.make.__module__.split('.')[-1]}.{self.make.__name__}"


def mean(outputs):
    """The mean of all that the model puts out first."""
    first = tree.flatten(outputs)[0]
    return ops.mean(ops.reshape(first, (first.shape[0], -1)), axis=1)


def seen(key):
    def target(outputs):
        return ops.mean(ops.reshape(outputs[key], (outputs[key].shape[0], -1)), axis=1)

    return target


def pairs(outputs):
    """How well each image fits its own text."""
    return ops.diagonal(outputs["vision_logits"])


def next_token(outputs):
    return outputs[:, -1, 7]


def _application(name, layer, size=2, quick=False):
    make = getattr(applications, name)
    make.__name__ = name
    return Architecture(make, layer, (size, size), 1, quick)


def _hub(name, layer, shape=(4, 4), target=1, quick=True, embedding=False, branches=False):
    return Architecture(getattr(hub, name), layer, shape, target, quick, embedding, branches)


ARCHITECTURES = [
    _application("mobilenet", "conv_pw_13_relu", quick=True),
    _application("mobilenet_v2", "out_relu"),
    _application("mobilenet_v3", "re_lu"),
    _application("efficientnet", "top_activation"),
    _application("efficientnet_v2", "top_activation"),
    _application("convnext", "add"),  # the last sum around a block, which is no layer
    _application("resnet", "conv5_block3_out"),
    _application("resnet_v2", "post_relu"),
    _application("vgg", "block5_pool"),
    _application("densenet", "relu"),
    _application("nasnet", "activation"),
    _application("xception", "block14_sepconv2_act", 3),
    _application("inception", "mixed10"),
    _application("inception_resnet", "conv_7b_ac"),
    _hub("resnet", "res_net_backbone/stack1_block0_out", quick=False),
    _hub("xception", "xception_backbone/block2_pool", quick=False),
    _hub("efficientnet", "efficient_net_backbone/top_activation", (8, 8), quick=False),
    _hub("mit", "mi_t_backbone/output_level_1", quick=False),
    _hub("segformer", "dropout", (8, 8), mean, quick=False),
    # Class tokens: what comes after this normalisation changes nothing but the class token.
    _hub("vit", "vi_t_backbone/vit_encoder/transformer_block_2/ln_1"),
    _hub("vit_pooled", "vi_t_backbone/vit_encoder", quick=False),
    _hub("deit", "dei_t_backbone/deit_encoder/transformer_block_2/ln_1", quick=False),
    _hub("dinov2", "encoder/layers_1/norm1", quick=False),
    _hub("swin", "swin_transformer_backbone/norm", quick=False),
    _hub("siglip", "sig_lip_vision_encoder/post_layer_norm", (4, 4), pairs, quick=False),
    _hub("clip", "clip_vision_encoder/encoder_block_1/layer_norm_1", (4, 4), pairs),
    _hub("sam", "sam_mask_decoder/sequential/activation", (32, 32), seen("masks"), quick=False),
    _hub("retinanet", "retina_net_backbone/fpn/output_conv_P3", (8, 8), seen("cls_logits"), quick=False),
    _hub("d_fine", "d_fine_backbone/decoder_input_proj_identity_1", (4, 4), seen("logits"), quick=False, branches=True),
    _hub("bert", "bert_backbone/transformer_layer_0", (8,), embedding=True),
    _hub("gpt2", "gpt2_backbone/layer_norm", (8,), mean, embedding=True),
    _hub("gemma", "gemma_backbone/final_normalization", (8,), mean, embedding=True, quick=False),
    _hub("llama", "llama_backbone/sequence_output_layernorm", (8,), mean, embedding=True, quick=False),
    _hub("whisper", "decoder_layer_norm", (8,), seen("decoder_sequence_output"), quick=False),
    Architecture(packages.tcn, "tcn/residual_block/SDropout_0", (16,), 1, True),
    Architecture(packages.medicai_densenet, "block2_trans_conv1x1", (2, 2, 2)),
    Architecture(packages.medicai_resnet, "stack2_block1_out", (2, 2)),
]
