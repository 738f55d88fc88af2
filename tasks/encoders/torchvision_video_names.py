"""``torchvision:R3D_18_Weights.KINETICS400_V1`` → spec, from a literal table: torchvision is not imported."""

from __future__ import annotations

from tasks.encoders.protocol import EncoderSpec
from tasks.encoders.sampling import Clips

VIDEO_WEIGHTS: dict[str, tuple[int, tuple[int, ...], int, Clips]] = {
    # weights: width of the penultimate layer, size after resizing, side of the crop, the clips of its evaluation
    "MC3_18_Weights.KINETICS400_V1": (512, (128, 171), 112, Clips(5, 16, 15)),
    "MViT_V1_B_Weights.KINETICS400_V1": (768, (256,), 224, Clips(5, 16, 7.5)),
    "MViT_V2_S_Weights.KINETICS400_V1": (768, (256,), 224, Clips(5, 16, 7.5)),
    "R2Plus1D_18_Weights.KINETICS400_V1": (512, (128, 171), 112, Clips(5, 16, 15)),
    "R3D_18_Weights.KINETICS400_V1": (512, (128, 171), 112, Clips(5, 16, 15)),
    "S3D_Weights.KINETICS400_V1": (1024, (256, 256), 224, Clips(1, 128, 15)),
    "Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1": (1024, (256,), 224, Clips(12, 32, 15)),
    "Swin3D_B_Weights.KINETICS400_V1": (1024, (256,), 224, Clips(12, 32, 15)),
    "Swin3D_S_Weights.KINETICS400_V1": (768, (256,), 224, Clips(12, 32, 15)),
    "Swin3D_T_Weights.KINETICS400_V1": (768, (256,), 224, Clips(12, 32, 15)),
}
"""What the weights' own presets and notes say; a test compares the table with the installed torchvision."""


def video_spec(name: str) -> EncoderSpec:
    """The penultimate layer of a torchvision network of videos, averaged over the clips of its evaluation.

    >>> video_spec("torchvision:R3D_18_Weights.KINETICS400_V1").sampling
    '5 clips of 16 frames, 15 a second, mean'
    """
    weights = name.removeprefix("torchvision:")
    dim, _, _, clips = VIDEO_WEIGHTS[weights]
    seen = "trained on the Kinetics-400 training set"
    return EncoderSpec(
        name=name,
        modality="video",
        dim=dim,
        revision=f"torchvision {weights}",
        licence="BSD-3-Clause",
        loader="tasks.encoders.torchvision_videos:load",
        pooling="avg",
        source="torchvision",
        cnn_activations=weights.startswith(("R3D", "MC3", "R2Plus1D", "S3D")),
        seen=f"{seen}, after ImageNet-22k" if "IMAGENET22K" in weights else seen,
        runtimes=("torch",),
        sampling=f"{clips}, mean",
    )
