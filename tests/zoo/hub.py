"""Small random networks of keras-hub, one of each family; nothing is downloaded.

keras-hub is an extra of the tests: `pip install ".[zoo]"`.
"""

import keras
import numpy as np

SEED = 7


def images(count=3, size=32, channels=3, scale=1.0):
    light = scale * np.linspace(0.2, 2, count).reshape(-1, 1, 1, 1)  # each with a brightness of its own
    return (light * np.random.default_rng(SEED).random((count, size, size, channels))).astype("float32")


def token_ids(count=3, length=8, vocabulary=20):
    return np.random.default_rng(SEED).integers(1, vocabulary, (count, length)).astype("int32")


def text(count=3, length=8, segments=False):
    inputs = {"token_ids": token_ids(count, length), "padding_mask": np.ones((count, length), "int32")}
    inputs["padding_mask"][0, -2:] = 0
    return {**inputs, "segment_ids": np.zeros((count, length), "int32")} if segments else inputs


def _models():
    import keras_hub

    return keras_hub.models


def _classifier(backbone, **options):
    return _models().ImageClassifier(backbone=backbone, num_classes=4, activation="softmax", **options)


def _resnet_backbone():
    return _models().ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )


def resnet():
    return _models().ResNetImageClassifier(backbone=_resnet_backbone(), num_classes=4, activation="softmax"), images()


def xception():
    backbone = _models().XceptionBackbone(
        stackwise_conv_filters=[[8, 8], [8, 16]], stackwise_pooling=[True, True], image_shape=(32, 32, 3)
    )
    return _classifier(backbone), images()


def efficientnet():
    backbone = _models().EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[8, 8],
        stackwise_output_filters=[8, 16],
        stackwise_expansion_ratios=[1, 2],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["v1", "v1"],
        stackwise_width_coefficients=[1.0, 1.0],
        stackwise_depth_coefficients=[1.0, 1.0],
        num_features=16,
        input_shape=(32, 32, 3),
    )
    return _models().EfficientNetImageClassifier(backbone=backbone, num_classes=4, activation="softmax"), images()


def _mit_backbone():
    return _models().MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=(32, 32, 3),
        hidden_dims=[8, 16],
    )


def mit():
    return _models().MiTImageClassifier(backbone=_mit_backbone(), num_classes=4, activation="softmax"), images()


def segformer():
    backbone = _models().SegFormerBackbone(image_encoder=_mit_backbone(), projection_filters=8)
    return _models().SegFormerImageSegmenter(backbone=backbone, num_classes=3), images()


def _vit_settings():
    return {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}


def vit():
    backbone = _models().ViTBackbone(**_vit_settings(), mlp_dim=32)
    return _models().ViTImageClassifier(backbone=backbone, num_classes=4, activation="softmax"), images()


def vit_pooled():
    backbone = _models().ViTBackbone(**_vit_settings(), mlp_dim=32, use_class_token=False)
    model = _models().ViTImageClassifier(backbone=backbone, num_classes=4, pooling="gap", activation="softmax")
    return model, images()


def deit():
    backbone = _models().DeiTBackbone(**{**_vit_settings(), "patch_size": (8, 8)}, intermediate_dim=32)
    return _models().DeiTImageClassifier(backbone=backbone, num_classes=4, activation="softmax"), images()


def dinov2():
    backbone = _models().DINOV2Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=4,
        image_shape=(32, 32, 3),
        position_embedding_shape=(32, 32),
    )
    features = keras.layers.Lambda(lambda x: x[:, 0], name="class_token")(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(4, activation="softmax", name="head")(features)), {
        "images": images()
    }


def swin():
    backbone = _models().SwinTransformerBackbone(
        image_shape=(32, 32, 3), embed_dim=8, depths=(2, 2), num_heads=(2, 2), window_size=2, patch_size=4
    )
    return _models().SwinTransformerImageClassifier(backbone=backbone, num_classes=4, activation="softmax"), images()


def _vision(kind):
    return kind(patch_size=8, hidden_dim=16, num_layers=2, num_heads=2, intermediate_dim=32, image_shape=(32, 32, 3))


def _language(kind):
    return kind(
        vocabulary_size=20,
        embedding_dim=16,
        hidden_dim=16,
        num_layers=2,
        num_heads=2,
        intermediate_dim=32,
        max_sequence_length=16,
    )


def siglip():
    models = _models()
    backbone = models.SigLIPBackbone(
        vision_encoder=_vision(models.SigLIPVisionEncoder), text_encoder=_language(models.SigLIPTextEncoder)
    )
    return backbone, {"images": images(), "token_ids": token_ids(length=16)}


def clip():
    models = _models()
    backbone = models.CLIPBackbone(
        vision_encoder=_vision(models.CLIPVisionEncoder),
        text_encoder=_language(models.CLIPTextEncoder),
        projection_dim=16,
    )
    return backbone, {"images": images(), "token_ids": token_ids(length=16)}


def sam():
    models, size = _models(), 64
    import keras_hub

    encoder = models.ViTDetBackbone(
        hidden_size=16,
        num_layers=2,
        intermediate_dim=32,
        num_heads=2,
        global_attention_layer_indices=[1],
        patch_size=8,
        num_output_channels=16,
        window_size=2,
        image_shape=(size, size, 3),
    )
    prompts = keras_hub.layers.SAMPromptEncoder(
        hidden_size=16, image_embedding_size=(8, 8), input_image_size=(size, size), mask_in_channels=4
    )
    decoder = keras_hub.layers.SAMMaskDecoder(
        num_layers=1,
        hidden_size=16,
        intermediate_dim=32,
        num_heads=2,
        embedding_dim=16,
        num_multimask_outputs=3,
        iou_head_depth=2,
        iou_head_hidden_dim=8,
    )
    backbone = models.SAMBackbone(image_encoder=encoder, prompt_encoder=prompts, mask_decoder=decoder)
    count = 2
    return models.SAMImageSegmenter(backbone=backbone), {
        "images": images(count, size),
        "points": np.full((count, 1, 2), 20.0, "float32"),
        "labels": np.ones((count, 1), "float32"),
        "boxes": np.tile(np.array([[[[8.0, 8.0], [40.0, 40.0]]]], "float32"), (count, 1, 1, 1)),
        "masks": np.zeros((count, 1, 32, 32, 1), "float32"),
    }


def retinanet():
    models = _models()
    encoder = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    backbone = models.RetinaNetBackbone(
        image_encoder=encoder, min_level=3, max_level=4, use_p5=False, image_shape=(64, 64, 3)
    )
    import keras_hub

    anchors = keras_hub.layers.AnchorGenerator(
        bounding_box_format="yxyx", min_level=3, max_level=4, num_scales=1, aspect_ratios=[1.0], anchor_size=4.0
    )
    model = models.RetinaNetObjectDetector(
        backbone=backbone, num_classes=4, anchor_generator=anchors, pre_logits_num_conv_layers=1
    )
    return model, images(2, 64)


def d_fine():
    models, size = _models(), 32
    encoder = models.HGNetV2Backbone(
        stem_channels=[3, 8, 8],
        stackwise_stage_filters=[[8, 8, 16, 1, 1, 3], [16, 8, 32, 1, 1, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        depths=[1, 1],
        hidden_sizes=[16, 32],
        embedding_size=8,
        use_learnable_affine_block=True,
        hidden_act="relu",
        image_shape=(None, None, 3),
        out_features=["stage1", "stage2"],
    )
    backbone = models.DFineBackbone(
        backbone=encoder,
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=10,
        num_labels=4,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=10,
        anchor_image_size=(size, size),
        feat_strides=[4, 8],
        num_feature_levels=2,
        encoder_in_channels=[16, 32],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=32,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=32,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=1,
        out_features=["stage1", "stage2"],
        image_shape=(size, size, 3),
        seed=0,
    )
    return models.DFineObjectDetector(backbone=backbone, num_classes=4, bounding_box_format="yxyx"), images(2)


def _transformer(kind, **more):
    return kind(vocabulary_size=20, num_layers=2, hidden_dim=16, intermediate_dim=32, **more)


def bert():
    models = _models()
    backbone = _transformer(models.BertBackbone, num_heads=2, max_sequence_length=8)
    model = models.BertTextClassifier(backbone=backbone, num_classes=3, activation="softmax")
    return model, text(segments=True)


def gpt2():
    models = _models()
    return models.GPT2CausalLM(_transformer(models.GPT2Backbone, num_heads=2, max_sequence_length=8)), text()


def gemma():
    models = _models()
    backbone = _transformer(models.GemmaBackbone, num_query_heads=2, num_key_value_heads=1, head_dim=8)
    return models.GemmaCausalLM(backbone), text()


def llama():
    models = _models()
    backbone = _transformer(models.LlamaBackbone, num_query_heads=2, num_key_value_heads=1)
    return models.LlamaCausalLM(backbone), text()


def whisper():
    models = _models()
    backbone = _transformer(
        models.WhisperBackbone,
        num_heads=2,
        num_mels=8,
        max_encoder_sequence_length=16,
        max_decoder_sequence_length=8,
    )
    sound = np.random.default_rng(SEED).normal(size=(3, 16, 8)).astype("float32")
    return backbone, {
        "encoder_features": sound,
        "decoder_token_ids": token_ids(),
        "decoder_padding_mask": np.ones((3, 8), "int32"),
    }


# --- more transformers, for attention


def dinov3():
    backbone = _models().DINOV3Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=4,
        image_shape=(32, 32, 3),
    )
    features = keras.layers.Lambda(lambda x: x[:, 0], name="class_token")(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(4, name="head")(features)), {"pixel_values": images()}


def roberta():
    return _transformer(_models().RobertaBackbone, num_heads=2, max_sequence_length=8), text()


def albert():
    backbone = _transformer(_models().AlbertBackbone, num_heads=2, embedding_dim=8, max_sequence_length=8)
    return backbone, text(segments=True)


def distil_bert():
    return _transformer(_models().DistilBertBackbone, num_heads=2, max_sequence_length=8), text()


def deberta():
    return _transformer(_models().DebertaV3Backbone, num_heads=2, max_sequence_length=8, bucket_size=4), text()


def esm():
    return _transformer(_models().ESMBackbone, num_heads=2), {"token_ids": token_ids()}


def opt():
    models = _models()
    return models.OPTCausalLM(_transformer(models.OPTBackbone, num_heads=2, max_sequence_length=8)), text()


def bloom():
    models = _models()
    return models.BloomCausalLM(_transformer(models.BloomBackbone, num_heads=2)), text()


def falcon():
    models = _models()
    return models.FalconCausalLM(_transformer(models.FalconBackbone, num_attention_heads=2)), text()


def gpt_neo_x():
    models = _models()
    return models.GPTNeoXCausalLM(_transformer(models.GPTNeoXBackbone, num_heads=2, max_sequence_length=8)), text()


def _grouped(backbone, model, **more):
    return model(_transformer(backbone, num_query_heads=2, num_key_value_heads=1, **more)), text()


def gemma2():
    models = _models()
    return _grouped(
        models.GemmaBackbone,
        models.GemmaCausalLM,
        head_dim=8,
        attention_logit_soft_cap=50.0,
        final_logit_soft_cap=30.0,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=4,
    )


def mistral():
    models = _models()
    return _grouped(models.MistralBackbone, models.MistralCausalLM, sliding_window=4)


def qwen():
    models = _models()
    return _grouped(models.QwenBackbone, models.QwenCausalLM)


def qwen3():
    models = _models()
    return _grouped(models.Qwen3Backbone, models.Qwen3CausalLM, head_dim=8)


def phi3():
    models = _models()
    return _grouped(models.Phi3Backbone, models.Phi3CausalLM)


def _both_sides(count=3):
    return {
        "encoder_token_ids": token_ids(count, 6),
        "encoder_padding_mask": np.ones((count, 6), "int32"),
        "decoder_token_ids": token_ids(count, 8),
        "decoder_padding_mask": np.ones((count, 8), "int32"),
    }


def t5():
    return _transformer(_models().T5Backbone, num_heads=2), _both_sides()


def bart():
    return _transformer(_models().BartBackbone, num_heads=2, max_sequence_length=8), _both_sides()


def whisper_short():
    """Whisper with fewer tokens to say than to hear."""
    model, inputs = whisper()
    return model, {**inputs, **{key: inputs[key][:, :6] for key in ("decoder_token_ids", "decoder_padding_mask")}}
