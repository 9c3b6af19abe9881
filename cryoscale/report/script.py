"""The page's script, and the policy that lets it run and nothing else.

The policy names the script by its hash: text that got into the page by any name or header cannot run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

__all__ = ["SCRIPT", "policy"]

SCRIPT = resources.files("cryoscale.report").joinpath("page.js").read_text(encoding="utf-8")


def policy(script: str) -> str:
    """Return the content security policy of a page with this script: nothing is loaded, sent, framed or run besides."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
