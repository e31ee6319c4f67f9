"""The page for one image: it stands alone and forbids itself everything it does not need.

The page holds nothing of the model: it asks `/about`, with the token where there is one. Its style
and its script are named in its policy by their digests, so nothing that is put into it would run.
"""

import base64
import hashlib

from histo_mlflow.inference.serving._page_css import CSS
from histo_mlflow.inference.serving._page_html import HTML
from histo_mlflow.inference.serving._page_js import SCRIPT


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CSP = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_digest(SCRIPT)}",
        f"style-src {_digest(CSS)}",
        "img-src data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE = HTML.replace("/*STYLE*/", CSS).replace("/*SCRIPT*/", SCRIPT).encode("utf-8")
