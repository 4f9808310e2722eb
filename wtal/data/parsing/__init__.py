"""Parsing of JSON, tables and arrays of objects, with errors that name the place."""
