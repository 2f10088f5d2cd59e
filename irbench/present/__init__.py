"""Texts, number formats, tables and styles that report and compare share."""
