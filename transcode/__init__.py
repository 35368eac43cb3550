"""Renditions, playlists and stills, planned as data."""
