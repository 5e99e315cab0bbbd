"""Data: one reader a format, manifests, splits by patient, the packed store, and the pipeline."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "inputs.augmentation": ["Augmentation"],
        "formats.brats_h5": ["read_brats"],
        "formats.lgg": ["read_lgg"],
        "manifest": ["read_manifest", "write_manifest"],
        "formats.msd": ["read_msd"],
        "formats.nifti": ["read_nifti_folders"],
        "formats.pairs": ["read_pairs"],
        "phantom": ["write_brats_phantom", "write_phantom"],
        "pipeline": ["make_dataset"],
        "inputs.preprocessing": ["Preprocessing"],
        "sources": ["open_source"],
        "store": ["StoredVolumes", "write_store"],
        "inputs.targets": ["Target"],
        "writing": ["write_brats_slices"],
    },
)
