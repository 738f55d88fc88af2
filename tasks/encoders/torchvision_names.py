"""``torchvision:ResNet50_Weights.IMAGENET1K_V2`` → spec, from a literal table: torchvision is not imported."""

from __future__ import annotations

from difflib import get_close_matches

from tasks.encoders.protocol import EncoderError, EncoderSpec
from tasks.encoders.torchvision_video_names import VIDEO_WEIGHTS, video_spec

WEIGHTS: dict[str, tuple[int, int, int, str]] = {
    # weights: width of the penultimate layer, shorter side after resizing, side of the crop, filter
    "ConvNeXt_Base_Weights.IMAGENET1K_V1": (1024, 232, 224, "bilinear"),
    "ConvNeXt_Large_Weights.IMAGENET1K_V1": (1536, 232, 224, "bilinear"),
    "ConvNeXt_Small_Weights.IMAGENET1K_V1": (768, 230, 224, "bilinear"),
    "ConvNeXt_Tiny_Weights.IMAGENET1K_V1": (768, 236, 224, "bilinear"),
    "DenseNet121_Weights.IMAGENET1K_V1": (1024, 256, 224, "bilinear"),
    "DenseNet161_Weights.IMAGENET1K_V1": (2208, 256, 224, "bilinear"),
    "DenseNet169_Weights.IMAGENET1K_V1": (1664, 256, 224, "bilinear"),
    "DenseNet201_Weights.IMAGENET1K_V1": (1920, 256, 224, "bilinear"),
    "EfficientNet_B0_Weights.IMAGENET1K_V1": (1280, 256, 224, "bicubic"),
    "EfficientNet_B1_Weights.IMAGENET1K_V1": (1280, 256, 240, "bicubic"),
    "EfficientNet_B1_Weights.IMAGENET1K_V2": (1280, 255, 240, "bilinear"),
    "EfficientNet_B2_Weights.IMAGENET1K_V1": (1408, 288, 288, "bicubic"),
    "EfficientNet_B3_Weights.IMAGENET1K_V1": (1536, 320, 300, "bicubic"),
    "EfficientNet_B4_Weights.IMAGENET1K_V1": (1792, 384, 380, "bicubic"),
    "EfficientNet_B5_Weights.IMAGENET1K_V1": (2048, 456, 456, "bicubic"),
    "EfficientNet_B6_Weights.IMAGENET1K_V1": (2304, 528, 528, "bicubic"),
    "EfficientNet_B7_Weights.IMAGENET1K_V1": (2560, 600, 600, "bicubic"),
    "EfficientNet_V2_L_Weights.IMAGENET1K_V1": (1280, 480, 480, "bicubic"),
    "EfficientNet_V2_M_Weights.IMAGENET1K_V1": (1280, 480, 480, "bilinear"),
    "EfficientNet_V2_S_Weights.IMAGENET1K_V1": (1280, 384, 384, "bilinear"),
    "MobileNet_V2_Weights.IMAGENET1K_V1": (1280, 256, 224, "bilinear"),
    "MobileNet_V2_Weights.IMAGENET1K_V2": (1280, 232, 224, "bilinear"),
    "MobileNet_V3_Large_Weights.IMAGENET1K_V1": (1280, 256, 224, "bilinear"),
    "MobileNet_V3_Large_Weights.IMAGENET1K_V2": (1280, 232, 224, "bilinear"),
    "MobileNet_V3_Small_Weights.IMAGENET1K_V1": (1024, 256, 224, "bilinear"),
    "RegNet_X_16GF_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "RegNet_X_16GF_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "RegNet_X_1_6GF_Weights.IMAGENET1K_V1": (912, 256, 224, "bilinear"),
    "RegNet_X_1_6GF_Weights.IMAGENET1K_V2": (912, 232, 224, "bilinear"),
    "RegNet_X_32GF_Weights.IMAGENET1K_V1": (2520, 256, 224, "bilinear"),
    "RegNet_X_32GF_Weights.IMAGENET1K_V2": (2520, 232, 224, "bilinear"),
    "RegNet_X_3_2GF_Weights.IMAGENET1K_V1": (1008, 256, 224, "bilinear"),
    "RegNet_X_3_2GF_Weights.IMAGENET1K_V2": (1008, 232, 224, "bilinear"),
    "RegNet_X_400MF_Weights.IMAGENET1K_V1": (400, 256, 224, "bilinear"),
    "RegNet_X_400MF_Weights.IMAGENET1K_V2": (400, 232, 224, "bilinear"),
    "RegNet_X_800MF_Weights.IMAGENET1K_V1": (672, 256, 224, "bilinear"),
    "RegNet_X_800MF_Weights.IMAGENET1K_V2": (672, 232, 224, "bilinear"),
    "RegNet_X_8GF_Weights.IMAGENET1K_V1": (1920, 256, 224, "bilinear"),
    "RegNet_X_8GF_Weights.IMAGENET1K_V2": (1920, 232, 224, "bilinear"),
    "RegNet_Y_16GF_Weights.IMAGENET1K_V1": (3024, 256, 224, "bilinear"),
    "RegNet_Y_16GF_Weights.IMAGENET1K_V2": (3024, 232, 224, "bilinear"),
    "RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1": (3024, 384, 384, "bicubic"),
    "RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_LINEAR_V1": (3024, 224, 224, "bicubic"),
    "RegNet_Y_1_6GF_Weights.IMAGENET1K_V1": (888, 256, 224, "bilinear"),
    "RegNet_Y_1_6GF_Weights.IMAGENET1K_V2": (888, 232, 224, "bilinear"),
    "RegNet_Y_32GF_Weights.IMAGENET1K_V1": (3712, 256, 224, "bilinear"),
    "RegNet_Y_32GF_Weights.IMAGENET1K_V2": (3712, 232, 224, "bilinear"),
    "RegNet_Y_32GF_Weights.IMAGENET1K_SWAG_E2E_V1": (3712, 384, 384, "bicubic"),
    "RegNet_Y_32GF_Weights.IMAGENET1K_SWAG_LINEAR_V1": (3712, 224, 224, "bicubic"),
    "RegNet_Y_3_2GF_Weights.IMAGENET1K_V1": (1512, 256, 224, "bilinear"),
    "RegNet_Y_3_2GF_Weights.IMAGENET1K_V2": (1512, 232, 224, "bilinear"),
    "RegNet_Y_400MF_Weights.IMAGENET1K_V1": (440, 256, 224, "bilinear"),
    "RegNet_Y_400MF_Weights.IMAGENET1K_V2": (440, 232, 224, "bilinear"),
    "RegNet_Y_800MF_Weights.IMAGENET1K_V1": (784, 256, 224, "bilinear"),
    "RegNet_Y_800MF_Weights.IMAGENET1K_V2": (784, 232, 224, "bilinear"),
    "RegNet_Y_8GF_Weights.IMAGENET1K_V1": (2016, 256, 224, "bilinear"),
    "RegNet_Y_8GF_Weights.IMAGENET1K_V2": (2016, 232, 224, "bilinear"),
    "ResNet101_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "ResNet101_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "ResNet152_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "ResNet152_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "ResNet18_Weights.IMAGENET1K_V1": (512, 256, 224, "bilinear"),
    "ResNet34_Weights.IMAGENET1K_V1": (512, 256, 224, "bilinear"),
    "ResNet50_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "ResNet50_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "ResNeXt101_32X8D_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "ResNeXt101_32X8D_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "ResNeXt101_64X4D_Weights.IMAGENET1K_V1": (2048, 232, 224, "bilinear"),
    "ResNeXt50_32X4D_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "ResNeXt50_32X4D_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "Swin_B_Weights.IMAGENET1K_V1": (1024, 238, 224, "bicubic"),
    "Swin_S_Weights.IMAGENET1K_V1": (768, 246, 224, "bicubic"),
    "Swin_T_Weights.IMAGENET1K_V1": (768, 232, 224, "bicubic"),
    "Swin_V2_B_Weights.IMAGENET1K_V1": (1024, 272, 256, "bicubic"),
    "Swin_V2_S_Weights.IMAGENET1K_V1": (768, 260, 256, "bicubic"),
    "Swin_V2_T_Weights.IMAGENET1K_V1": (768, 260, 256, "bicubic"),
    "ViT_B_16_Weights.IMAGENET1K_V1": (768, 256, 224, "bilinear"),
    "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1": (768, 384, 384, "bicubic"),
    "ViT_B_16_Weights.IMAGENET1K_SWAG_LINEAR_V1": (768, 224, 224, "bicubic"),
    "ViT_B_32_Weights.IMAGENET1K_V1": (768, 256, 224, "bilinear"),
    "ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1": (1280, 518, 518, "bicubic"),
    "ViT_H_14_Weights.IMAGENET1K_SWAG_LINEAR_V1": (1280, 224, 224, "bicubic"),
    "ViT_L_16_Weights.IMAGENET1K_V1": (1024, 242, 224, "bilinear"),
    "ViT_L_16_Weights.IMAGENET1K_SWAG_E2E_V1": (1024, 512, 512, "bicubic"),
    "ViT_L_16_Weights.IMAGENET1K_SWAG_LINEAR_V1": (1024, 224, 224, "bicubic"),
    "ViT_L_32_Weights.IMAGENET1K_V1": (1024, 256, 224, "bilinear"),
    "Wide_ResNet101_2_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "Wide_ResNet101_2_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
    "Wide_ResNet50_2_Weights.IMAGENET1K_V1": (2048, 256, 224, "bilinear"),
    "Wide_ResNet50_2_Weights.IMAGENET1K_V2": (2048, 232, 224, "bilinear"),
}
"""What the weights' own presets say; a test compares the table with the installed torchvision."""

_RECTIFIED = ("ResNet", "Wide_ResNet", "ResNeXt", "DenseNet", "RegNet", "EfficientNet", "MobileNet")


def torchvision_spec(name: str) -> EncoderSpec:
    """The penultimate layer of a torchvision model under the exact weights named.

    Raises `EncoderError` for ``DEFAULT``, which moves with the library's releases, and for unknown weights.

    >>> torchvision_spec("torchvision:ResNet50_Weights.IMAGENET1K_V2").dim
    2048
    """
    weights = name.removeprefix("torchvision:")
    if weights in VIDEO_WEIGHTS:
        return video_spec(name)
    family, _, which = weights.partition(".")
    model = family.lower().removesuffix("_weights")
    own = [known for known in (*WEIGHTS, *VIDEO_WEIGHTS) if known.partition("_Weights.")[0].lower() == model]
    if which.upper() == "DEFAULT":
        raise EncoderError(
            f"{name}: DEFAULT moves when torchvision is updated", f"write {' or '.join(own) or 'the exact weights'}"
        )
    if weights not in WEIGHTS:
        near = own or get_close_matches(weights, [*WEIGHTS, *VIDEO_WEIGHTS], 3)
        raise EncoderError(
            f"{name}: these weights are not known", f"write {' or '.join(near) or 'ResNet50_Weights.IMAGENET1K_V2'}"
        )
    swag = "SWAG" in which
    seen = "trained on the ImageNet-1k training set"
    return EncoderSpec(
        name=name,
        modality="image",
        dim=WEIGHTS[weights][0],
        revision=f"torchvision {weights}",
        licence="CC-BY-NC-4.0" if swag else "BSD-3-Clause",
        loader="tasks.encoders.torchvision_models:load",
        pooling="cls" if family.startswith("ViT") else "avg",
        source="torchvision",
        cnn_activations=family.startswith(_RECTIFIED),
        seen=f"{seen}, after 3.6 billion Instagram pictures" if swag else seen,
    )
