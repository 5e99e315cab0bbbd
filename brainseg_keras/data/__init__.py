"""Data: one reader a format, manifests, splits by patient, the packed store, and the pipeline."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "augmentation": ["Augmentation"],
        "brats": ["read_brats", "write_brats_slices"],
        "lgg": ["read_lgg"],
        "manifest": ["read_manifest", "write_manifest"],
        "nifti": ["read_msd", "read_nifti_folders"],
        "pairs": ["read_pairs"],
        "phantom": ["write_phantom"],
        "phantom_brats": ["write_brats_phantom"],
        "pipeline": ["make_dataset"],
        "preprocessing": ["Preprocessing"],
        "sources": ["open_source"],
        "store": ["StoredVolumes", "write_store"],
        "targets": ["Target"],
    },
)
