"""One file into an array: pictures, NIfTI, DICOM, HDF5."""
