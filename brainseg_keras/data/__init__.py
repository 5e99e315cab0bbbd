"""Data: one reader a format, manifests, splits by patient, the packed store, and the pipeline."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["Augmentation"],
        "lgg": ["read_lgg"],
        "manifest": ["read_manifest", "write_manifest"],
        "phantom": ["write_phantom"],
        "pipeline": ["make_dataset"],
        "preprocessing": ["Preprocessing"],
        "sources": ["open_source"],
        "store": ["StoredVolumes", "write_store"],
    },
)
