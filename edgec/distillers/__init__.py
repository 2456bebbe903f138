"""One kind of knowledge a file: what a teacher hands on to a student."""
