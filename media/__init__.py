"""The only package that imports av or runs FFmpeg."""
