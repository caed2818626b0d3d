"""Completion for shells: what can follow each word, as data, and the scripts generated from it."""
