"""Celery workers and the relay."""
