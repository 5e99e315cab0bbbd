"""Training: a typed configuration in, a run folder out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "callbacks": ["PatientValidation"],
        "config": ["TrainingConfig"],
        "cpu": ["speed_up"],
        "devices": ["Devices"],
        "folds": ["FoldsFolder", "resume_folds", "train_folds"],
        "loop": ["resume", "train"],
        "run": ["RunFolder"],
    },
)
