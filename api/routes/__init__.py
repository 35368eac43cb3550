"""Thin endpoints, one module a resource."""
