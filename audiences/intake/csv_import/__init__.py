"""Csv_import."""
