"""How Sphinx builds the book from the folder that build.py fills."""

import pages
from series import series

NOTEBOOKS = series()

project = "A variational autoencoder you can see"
author = "the authors of this series"
extensions = ["myst_nb", "book"]
exclude_patterns = ["README.md", "text", "_static"]
book_terms = pages.terms(NOTEBOOKS)
book_titles = {f"notebooks/{notebook.name}": f"{notebook.number} {notebook.title}" for notebook in NOTEBOOKS}

nb_execution_mode = "off"  # what is committed is what is shown
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_heading_slug_func = "book.anchor"
smartquotes = False  # quotation marks and dashes are the authors'

html_theme = "pydata_sphinx_theme"
html_title = project
html_copy_source = False
html_show_sourcelink = False
html_use_index = False
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_favicon = "static/favicon.svg"
templates_path = ["templates"]
html_additional_pages = {"search": "search.html"}
html_sidebars = {"**": ["sidebar-book.html"]}
html_context = {
    "default_mode": "auto",
    "book_colab": {f"notebooks/{notebook.name}": notebook.colab for notebook in NOTEBOOKS},
}
html_theme_options = {
    "logo": {"text": "A VAE you can see", "image_light": "static/favicon.svg", "image_dark": "static/favicon.svg"},
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "article_header_start": ["toolbar.html"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": [],
    "footer_end": [],
    "search_bar_text": "Search the book",
    "back_to_top_button": False,
}
