"""U-Nets for brain tumours in MRI: published architectures, honest per-patient scores.

Names are resolved when first used, so that `import brainseg_keras` (and with it `brainseg --help`) loads neither
Keras nor NumPy.
"""

import os

import lazy_loader

from brainseg_keras._registration import register_with_keras
from brainseg_keras._version import __version__

# TensorFlow leaves oneDNN off on CPUs without VNNI or AMX, where it trains these networks up to 2.5 times as fast. The
# variable is read once, when TensorFlow is loaded, so it is set here and not where TensorFlow is first needed.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_attributes = {
    "models.architectures": [
        "ar2_unet",
        "attention_res_unet",
        "attention_unet",
        "mod_r2au_net",
        "r2_unet",
        "res_unet",
        "unet",
    ],
    "models.attention_maps": ["attention_maps"],
    "models.blocks": ["BlockStyle", "attention_block", "conv_block", "recurrent_res_block", "res_conv_block"],
    "models.builder": ["build_unet"],
    "models": ["build_model", "list_models"],
    "losses": [
        "BCEDiceLoss",
        "BinaryFocalLoss",
        "DiceFocalLoss",
        "DiceLoss",
        "FocalTverskyLoss",
        "JaccardLoss",
        "TverskyLoss",
    ],
    "metrics": ["DiceCoefficient", "IntersectionOverUnion", "PixelAccuracy", "PixelPrecision", "PixelRecall"],
    "data": ["make_dataset"],
    "inference": ["Predictor"],
    "models.pretrained": ["load_pretrained"],
    "training": ["TrainingConfig", "train"],
}

__getattr__, __dir__, _names = lazy_loader.attach(
    __name__,
    submodules=[
        "cli",
        "data",
        "errors",
        "evaluation",
        "inference",
        "losses",
        "metrics",
        "models",
        "reports",
        "training",
    ],
    submod_attrs=_attributes,
)
__all__ = [*_names, "__version__"]

register_with_keras()
