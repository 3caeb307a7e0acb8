"""The documentation site: `make docs` builds it from the pages of docs/ and the source, and fails on a broken link.

    collect     pages.py        the pages of docs/ and of experiments/results, in the order of the menu
                links.py        their links, which lead to files of the repository, lead to pages of the site
                notebooks.py    docs/notebooks: executed, with their outputs
                settings.py     a table of each section of a configuration, and of each verb's options
                reference.py    the names of the library, from their docstrings
    render      zensical.yml    Zensical and mkdocstrings make HTML of it, strictly
    check       check.py        every link, picture and anchor is there, and no page loads anything from elsewhere

The pages stay plain Markdown, with links that work on a code forge.
"""
