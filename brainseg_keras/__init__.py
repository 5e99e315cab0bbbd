"""U-Nets for brain tumours in MRI: architectures from the literature, honest per-patient scores.

Names are resolved when first used, so that `import brainseg_keras` (and with it `brainseg --help`) loads neither
Keras nor NumPy.
"""

import os

import lazy_loader

from brainseg_keras._registration import register_with_keras
from brainseg_keras._version import __version__
from brainseg_keras.registry import ARCHITECTURES, LOSSES, METRICS

# TensorFlow leaves oneDNN off on CPUs without VNNI or AMX, where it trains these networks up to 2.5 times as fast. The
# variable is read once, when TensorFlow is loaded, so it is set here and not where TensorFlow is first needed.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_attributes = {
    **{f"models.recipes.{file}": names for file, names in ARCHITECTURES.public_names().items()},
    "models.attention_maps": ["attention_maps"],
    "models.blocks": ["BlockStyle", "conv_block", "recurrent_res_block", "res_conv_block"],
    "models.engine": ["build_unet"],
    "models.gates": ["attention_block"],
    "models.registry": ["build_model", "list_models", "load_pretrained"],
    "models.shipped": ["list_pretrained"],
    **{f"losses.{file}": names for file, names in LOSSES.public_names().items()},
    **{f"metrics.{file}": names for file, names in METRICS.public_names().items()},
    "data": ["make_dataset"],
    "data.inputs.preprocessing": ["preprocess_input"],
    "inference": ["Predictor"],
    "postprocessing": ["Postprocessing"],
    "spec": ["NetworkSpec"],
    "training": ["PatientValidation", "TrainingConfig", "train"],
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

register_with_keras(lambda: [*LOSSES.values(), *METRICS.values()])
