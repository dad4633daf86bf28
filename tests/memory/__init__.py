"""Tests of remembered results with files and processes."""
