"""A page for MRI in, mask out (extra `ui`): `brainseg app`."""

from brainseg_keras.app.server import create_app, find_models, serve

__all__ = ["create_app", "find_models", "serve"]
