"""Build script: all metadata stands in pyproject.toml; this file is what `python setup.py` and old tools look for."""

from setuptools import setup

setup()
