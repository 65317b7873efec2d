"""What MkDocs is told besides `mkdocs.yml`."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"

# What TensorFlow's libraries print when a notebook imports them; no setting stops it.
_LOG = re.compile(
    r'<div class="[^"]*" data-mime-type="application/vnd.jupyter.stderr"[^>]*>\s*<pre>'
    r"(?:(?!</pre>).)*absl::InitializeLog.*?</pre>\s*</div>",
    flags=re.DOTALL,
)
# Parts of a page whose words are left as they are, words in the form of code, and what returns without a name.
_FIXED = re.compile(r"(<pre.*?</pre>|<h[1-6].*?</h[1-6]>|<a .*?</a>|<autoref.*?</autoref>)", flags=re.DOTALL)
_CELL = re.compile(r"(?<!<tr>\n)<td.*?</td>", flags=re.DOTALL)  # but for the first of a row
_CODE = re.compile(r"<code>((?:\w+\.)*)([A-Za-z_]\w*)((?:\([^<]*\))?)</code>")
_NAMELESS = re.compile(
    r'<ul>\s*<li class="doc-section-item field-body">\s*–\s*'
    r'<div class="doc-md-description">(.*?)</div>\s*</li>\s*</ul>',
    flags=re.DOTALL,
)
# The beginning of a sentence that was taken for a type, because a colon follows: `float32 in [0, 1]: one map an image`.
_SENTENCE = re.compile(
    r"<code>([^<]*(?:`|[a-z0-9] [a-z])[^<]*)</code>(\s*–\s*"
    r'<div class="doc-md-description">\s*<p>)(.*?)(?=</p>)',
    flags=re.DOTALL,
)
_PICTURE = re.compile(r'(<a [^>]*>\s*)?(<img [^>]*?src="((?!data:|http)[^"]+)"[^>]*>)')


def _module_file(name):
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _public(name):
    """Returns the public names that a module defines; none, if it is no module."""
    path = _module_file(name)
    body = ast.parse(path.read_text()).body if path.exists() else []
    return [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"]


def reference_names():
    """Returns a dict from each name of the reference to its whole names, those that are listed by themselves first."""
    text = "\n".join(path.read_text() for path in sorted(REFERENCE.glob("*.md")))
    listed = re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE)
    whole = [name for name in listed if not _module_file(name).exists()]
    whole += [f"{module}.{name}" for module in listed if module != "vis.backend" for name in _public(module)]
    names = {}
    for name in whole:
        names.setdefault(name.rpartition(".")[2], []).append(name)
    return names


_NAMES = reference_names()


def _linked(match):
    """Returns a word in the form of code, with a link if it names something of the reference."""
    module, name, call = match.groups()
    homes = [whole for whole in _NAMES.get(name, ()) if module == "vis." or f".{whole}".endswith(f".{module}{name}")]
    homes += [module + name] if module.startswith("vis.") else []  # a method, or a module
    telling = module or call or name[0].isupper() or "_" in name  # `show` alone may be any word
    return f'<autoref identifier="{homes[0]}" optional>{match[0]}</autoref>' if homes and telling else match[0]


def link_names(html):
    """Makes links of the names of the reference."""
    parts = _FIXED.split(html)
    return "".join(part if i % 2 else _CODE.sub(_linked, part) for i, part in enumerate(parts))


def link_names_beside(html):
    """Does so in tables only, beyond the first cell of a row: the page is about another library with like names."""
    return _CELL.sub(lambda cell: link_names(cell[0]), html)


def _joined(match):
    """Returns a result's description with its beginning put back."""
    begin, between, rest = match.groups()
    colon = ":" if begin.count("`") % 2 else ": "
    return between + re.sub("`([^`]*)`", r"<code>\1</code>", begin + colon + rest)


def describe_results(html):
    """Writes results that have no type as sentences, without a bullet or a dash."""
    return _NAMELESS.sub(r"\1", _SENTENCE.sub(_joined, html))


def break_paths(html):
    """Lets long paths in tables break after each slash."""
    return re.sub(r"(?<=<td><code>)\w+(?:/\w+)+(?=</code></td>)", lambda path: path[0].replace("/", "/<wbr>"), html)


def enlarge(html):
    """Makes every picture a link to itself, in its full size, unless it is a link already."""
    return _PICTURE.sub(lambda found: found[0] if found[1] else f'<a href="{found[3]}">{found[2]}</a>', html)


def on_config(config):
    """Shows the version beside the name of the repository, and below every page."""
    version = re.search(r'^__version__ = "(.+)"', (ROOT / "vis" / "__init__.py").read_text(), flags=re.MULTILINE)[1]
    config.repo_name = f"{config.site_name} {version}"
    config.copyright = f"{config.site_name} {version}, {config.copyright}"
    return config


def on_page_content(html, page, **_):
    """Drops the log, writes results as sentences, and makes links of names and pictures."""
    link = link_names_beside if "coming-from/" in page.file.src_uri else link_names
    return enlarge(break_paths(link(describe_results(_LOG.sub("", html)))))
