"""docs/api.md: the guide, and all addresses. To make it: ``python -m tests.support.api_page``."""

from gateway.app import create_app
from gateway.web.docs.document import describe
from tests.support.factories import ROOT, make_settings

FILE = ROOT / "docs/api.md"
COMMAND = "python -m tests.support.api_page"
ROW = "| `{method} {path}` | {summary} | {codes} |"
PAGE = """\
# The API
<!-- Made by {command} from gateway/web/docs/guide.md; edit that. -->
A running gateway shows this page at `/docs`, with every field, and lets you try it.

{guide}
## Addresses
| address | | answers |
|---|---|---|
{rows}

Error codes are in the [README](../README.md#error-codes).
"""


def api_page() -> str:
    """What docs/api.md must hold."""
    app = create_app(make_settings())
    with app.app_context():
        document = describe(app)
    rows = [
        ROW.format(
            method=method.upper(),
            path=path,
            summary=operation["summary"],
            codes=", ".join(operation["responses"]),
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return PAGE.format(command=COMMAND, guide=document["info"]["description"], rows="\n".join(rows))


if __name__ == "__main__":
    FILE.write_text(api_page(), encoding="utf-8")
