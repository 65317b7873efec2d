"""What MkDocs is told besides `mkdocs.yml`."""

import re

# What TensorFlow's libraries print when a notebook imports them; no setting stops it.
_LOG = re.compile(
    r'<div class="[^"]*" data-mime-type="application/vnd.jupyter.stderr"[^>]*>\s*<pre>'
    r"(?:(?!</pre>).)*absl::InitializeLog.*?</pre>\s*</div>",
    flags=re.DOTALL,
)


def on_page_content(html, **_):
    """Drops it from pages."""
    return _LOG.sub("", html)
