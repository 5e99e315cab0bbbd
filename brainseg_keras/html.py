"""The one skeleton of a page: reports, findings, what the page in the browser gives to take along."""

import html

from brainseg_keras.files import MAKER


def whole_page(title: str, body: str, style: str) -> str:
    """Put a page together that needs no other file.

    Args:
        title: Text, not markup.
        body: What stands in it, as HTML.
        style: CSS.

    Returns:
        The page.

    Example:
        >>> "<title>A &lt; B</title>" in whole_page("A < B", "<p>Hello</p>", "")
        True
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="generator" content="{MAKER}"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body>{body}</body></html>"
    )
