"""The pages of an import of customers: upload, columns, preview, lines and undo."""
