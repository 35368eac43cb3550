"""Adapters to FFmpeg: the only package that imports PyAV or runs an ffmpeg binary."""
