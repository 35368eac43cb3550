"""Tests: unit, contract, integration, journey."""
