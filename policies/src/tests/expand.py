"""Expands a JSON-LD document from standard input with pyld, with no network, and prints what came of it.

Fails if anything was lost on the way: a property that is no IRI, a value that is not there afterwards, a thing named by no IRI.
"""
import json
import sys
from urllib.parse import urlsplit

from pyld import jsonld


def offline(url, _options):
    sys.exit(f"wants to load {url}")


def written(node):
    """Scalars a document says, its context aside; null says nothing."""
    if isinstance(node, dict):
        return [each for key, value in node.items() if key != "@context" for each in written(value)]
    if isinstance(node, list):
        return [each for value in node for each in written(value)]
    return [] if node is None else [node]


def expanded(node):
    """Scalars an expanded document says; the type of a value and its language stood in the context, or were keys."""
    if isinstance(node, list):
        return [each for value in node for each in expanded(value)]
    if not isinstance(node, dict):
        return [node]
    if "@value" in node:
        return [node["@value"]]
    for key in node:
        absolute(key) if not key.startswith("@") else None
    for name in [node.get("@id"), *node.get("@type", [])]:
        absolute(name) if name is not None else None
    return [each for value in node.values() for each in expanded(value)]


def absolute(iri):
    if urlsplit(iri).scheme not in ("http", "https", "urn"):
        sys.exit(f"not an IRI: {iri}")


document = json.load(sys.stdin)
result = jsonld.expand(document, {"documentLoader": offline})
before, after = len(written(document)), len(expanded(result))
# The type of a value that is written out beside it.
before -= json.dumps(document).count('"@value"')
if before != after:
    sys.exit(f"{before} values were written, {after} are left")
json.dump(result, sys.stdout)
