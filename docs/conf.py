"""The documentation as a site: ``python -m sphinx -W docs build/docs``, with the extra ``docs``.

The pages are the Markdown files of this folder, which are read on the code host as well; so links
are plain relative paths. The reference is made from the docstrings of the installed package.
Whatever cannot be resolved is a warning, and CI turns warnings into errors. What belongs to the
standard library is not looked up: that would need the network.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import zerio_asyncio

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "zerio_asyncio"
author = "zerio_asyncio maintainers"
copyright = author  # noqa: A001 - Sphinx's name
release = zerio_asyncio.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = f"zerio_asyncio {release}"
html_theme_options = {  # pictures in text are up to 100 columns wide
    name: {"code-font-size": "0.75rem"} for name in ("light_css_variables", "dark_css_variables")
}
highlight_language = "none"
html_show_sourcelink = False
html_copy_source = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

nitpicky = True
default_role = "py:obj"  # docstrings name things in single backquotes
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
add_module_names = False

nitpick_ignore_regex = [
    ("py:.*", r"(asyncio|socket|ssl|collections|pathlib|weakref|enum|typing|tls)\..*"),
    ("py:class", r"T|ReadableBuffer|WriteableBuffer|CData|rio_provider|list\[.*"),  # of stubs alone
    ("py:class", r"Requests|SlowPeer"),  # inside messaging
]

OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+((?:tests|\.github)/[^)]*\.md)[^)]*\)")


def name_pages_outside(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Links to pages that are not of this folder stay readable: the site does not have them."""
    source[0] = OUTSIDE.sub(r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", name_pages_outside)
