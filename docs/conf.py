"""The site: `make docs` builds it into build/docs, with warnings as errors."""

from importlib.metadata import version as version_of

project = "genome-pipeline"
author = "genome-pipeline maintainers"
release = version = version_of("genome-pipeline")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["pictures/*.svg"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
# README, ARCHITECTURE and share_layout.md are read in the repository; the site links to their copies in it.
suppress_warnings = ["myst.xref_missing"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"genome-pipeline {release}"
