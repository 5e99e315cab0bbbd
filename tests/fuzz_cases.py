"""Damaged files on which a reader failed once: name of the target and seed, as tests/fuzz.py makes them."""

CASES = [
    ("read_dicom", 0),  # ValueError: matmul: Input operand 1 has a mismatch in its core dimension
    ("read_nifti", 2),  # HeaderDataError: Valid slope but invalid intercept -inf
    ("read_nifti", 4),  # OverflowError: cannot convert float infinity to integer
    ("read_nifti", 10),  # MemoryError:
    ("dicom_series", 11),  # ValueError: could not convert string to float: ''
    ("read_nifti", 18),  # HeaderDataError: EOL check not 0 or 13, 10, 26, 10; data may be corrupted by
    ("read_nifti", 22),  # HeaderDataError: failed to read extension content
    ("read_dicom", 22),  # ValueError: matmul: Input operand 1 does not have enough dimensions (has
    ("read_nifti", 32),  # MemoryError:
    ("read_nifti", 34),  # OverflowError: memory mapped length must be positive
    ("read_dicom", 41),  # NotImplementedError: Unknown Value Representation 'ZZ' in tag (0020,0037)
    ("dicom_series", 42),  # ValueError: could not convert string to float: 'ÿÿ'
    ("read_dicom", 43),  # ValueError: could not convert string to float: '\x01'
    ("dicom_series", 44),  # ValueError: could not convert string to float: '\x00\x01'
    ("nifti", 46),  # HeaderDataError: vox offset 0 too low for single file nifti1
    ("read_dicom", 51),  # ValueError: could not convert string to float: '1,2'
    ("read_dicom", 55),  # ValueError: could not convert string to float: '\x00'
    ("read_dicom", 56),  # TypeError: float() argument must be a string or a real number, not 'Mul
    ("read_nifti", 60),  # HeaderDataError: vox offset -1 too low for single file nifti1
    ("read_nifti", 64),  # HeaderDataError: Valid slope but invalid intercept nan
    ("read_dicom", 66),  # ValueError: could not convert string to float: '1.0L0.0'
    ("lgg", 71),  # TypeError: 'float' object cannot be interpreted as an integer
    ("read_nifti", 73),  # HeaderDataError: data code 1 not supported
    ("dicom_series", 78),  # ValueError: matmul: Input operand 1 does not have enough dimensions (has
    ("read_nifti", 80),  # HeaderDataError: vox offset -99999996802856924650656260769173209088 too low f
    ("msd", 81),  # HeaderDataError: data code 272 not recognized
    ("lgg", 82),  # TypeError: Missing dimensions
    ("msd", 92),  # HeaderDataError: data code 2048 not supported
    ("read_nifti", 97),  # HeaderDataError: vox offset 0 too low for single file nifti1
]
