"""A key that must not turn up, in all the forms in which a text can carry it."""

import base64
import html
import json
from urllib.parse import quote, quote_plus

from tests.bench.api.questions import CANARY

FORMS = {
    "plain": CANARY,
    "url": quote(CANARY, safe=""),
    "url with slashes": quote(CANARY),
    "form": quote_plus(CANARY),
    "lower-case url": quote(CANARY, safe="").replace("%2F", "%2f"),
    "json": json.dumps(CANARY),
    "json with slashes": json.dumps(CANARY).replace("/", "\\/"),
    "html": html.escape(CANARY),
    "python": repr(CANARY),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 of more": base64.b64encode(f"user:{CANARY}:x".encode()).decode(),
    "base64 for urls": base64.urlsafe_b64encode(CANARY.encode()).decode(),
    "hex": CANARY.encode().hex(),
}


def hits(text: str) -> list[str]:
    """The forms of which the middle half is in a text."""
    middles = {name: form.strip("\"'=") for name, form in FORMS.items()}
    return [name for name, form in middles.items() if form[len(form) // 4 : -(len(form) // 4)] in text]
