"""The networks: `build_model("unet", ...)` by name, the recipes in `recipes/`, or `build_unet` for one of your own."""

from brainseg_keras.models.registry import build_model, list_models, load_pretrained

__all__ = ["build_model", "list_models", "load_pretrained"]
