"""Who takes part: whose environment, which file does its jobs, which networks it has."""

from dataclasses import dataclass, field

ALL = ("unet", "attention_unet", "r2_unet")
#: oneDNN for every TensorFlow: it is off by default on processors without VNNI or AMX.
TENSORFLOW = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
KERAS_2 = TENSORFLOW | {"TF_USE_LEGACY_KERAS": "1", "SM_FRAMEWORK": "tf.keras"}


@dataclass(frozen=True)
class Contender:
    """One line of the tables.

    Args:
        title: What the tables call it.
        kind: `ours`, `keras` or `torch`.
        environment: Whose packages.
        side: Which file does its jobs.
        options: What that file is told.
        variables: Environment variables.
        networks: Which of the networks it has.
        works: Which work it does.
        job: What is added to its jobs.
    """

    title: str
    kind: str
    environment: str
    side: str
    options: dict = field(default_factory=dict)
    variables: dict = field(default_factory=lambda: dict(TENSORFLOW))
    networks: tuple[str, ...] = ALL
    works: tuple[str, ...] = ("train", "infer")
    job: dict = field(default_factory=dict)


def _ours(title: str, works: tuple[str, ...], **options) -> Contender:
    return Contender(f"brainseg_keras, {title}", "ours", "ours", "ours", options, works=works)


def _keras(package: str, networks: tuple[str, ...], variables: dict) -> Contender:
    return Contender(package.replace("_", "-"), "keras", package, "keras", {"package": package}, variables, networks)


def _torch(package: str, networks: tuple[str, ...], *, compiled: bool) -> Contender:
    return Contender(
        f"{package}, {'torch.compile' if compiled else 'eager'}",
        "torch",
        "torch",
        "torch",
        {"package": package},
        {},
        networks,
        job={"compiled": compiled},
    )


NETWORKS = (
    _ours("`brainseg train`", ("train",), plain=False),
    _ours("`fit` after `speed_up`", ("train",), plain=True),
    _ours("Keras", ("infer", "volume"), engine="keras"),
    _ours("ONNX Runtime", ("infer", "volume"), engine="onnx"),
    _ours("OpenVINO", ("infer", "volume"), engine="openvino"),
    _keras("keras_unet_collection", ALL, KERAS_2),
    _keras("medicai", ("unet", "attention_unet"), TENSORFLOW),
    _keras("segmentation_models", ("unet",), KERAS_2),
    _torch("segmentation_models_pytorch", ("unet",), compiled=False),
    _torch("monai", ("unet", "attention_unet"), compiled=False),
    _torch("monai", ("unet", "attention_unet"), compiled=True),
)
#: The loop that a whole patient is compared with.
PLAIN_LOOP = Contender(
    "plain `model.predict`, a slice at a time", "keras", "ours", "ours", {"engine": "plain"}, works=("volume",)
)


def _pictures(title: str, kind: str, environment: str, line: str) -> Contender:
    return Contender(title, kind, environment, "pictures", {"line": line, "core": 0}, works=("augment",))


AUGMENTATION = (
    _pictures("brainseg_keras, bare function", "ours", "ours", "function"),
    _pictures("brainseg_keras, as in training", "ours", "ours", "pipeline"),
    _pictures("Keras layers, dict, a batch at a time", "keras", "ours", "dict-batch"),
    _pictures("Keras layers, dict, a slice at a time", "keras", "ours", "dict-slice"),
    _pictures("Keras layers, mask as fourth channel, a batch at a time", "keras", "ours", "stack-batch"),
    _pictures("Keras layers, mask as fourth channel, a slice at a time", "keras", "ours", "stack-slice"),
    _pictures("albumentations, float32", "albumentations", "albumentations", "albumentations-float"),
    _pictures("albumentations, bytes, then float32", "albumentations", "albumentations", "albumentations-bytes"),
)


@dataclass(frozen=True)
class Cold:
    """One command that is timed from the start of its process.

    Args:
        title: What the table calls it.
        kind: As of a `Contender`.
        environment: Whose packages.
        script: First argument of cold.py; for brainseg_keras `brainseg`.
        variables: Environment variables.
    """

    title: str
    kind: str
    environment: str
    script: str
    variables: dict = field(default_factory=lambda: dict(TENSORFLOW))


COLD_SLICE = (
    Cold("`brainseg predict one.tif`", "ours", "ours", "brainseg"),
    Cold("keras-unet-collection", "keras", "keras_unet_collection", "keras_unet_collection", KERAS_2),
    Cold("medicai", "keras", "medicai", "medicai"),
    Cold("segmentation-models", "keras", "segmentation_models", "segmentation_models", KERAS_2),
    Cold("segmentation_models_pytorch, eager", "torch", "torch", "segmentation_models_pytorch", {}),
    Cold("monai, eager", "torch", "torch", "monai", {}),
)
COLD_BATCH = (
    Cold("brainseg_keras, `make_dataset`", "ours", "ours", "ours"),
    Cold("Keras layers in tf.data, mask as fourth channel", "keras", "ours", "keras"),
    Cold("monai, DataLoader", "torch", "torch", "monai", {}),
    Cold("albumentations, a loop", "albumentations", "albumentations", "albumentations", {}),
)
