"""Parsing and writing domain XML, with hostile input in mind."""

from __future__ import annotations

from lxml import etree

from twinship.model.errors import UsageError

MAX_BYTES = 4 * 1024 * 1024
"""libvirt's own RPC limit for a string (REMOTE_STRING_MAX, 4 MiB)."""


def parse(text: str) -> etree._Element:
    """The root element of ``text``. Entities, DTDs and the network are never followed.

    Raises :class:`UsageError` (``BAD_XML``) for anything that is not one well-formed document.
    """
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        raise UsageError("the domain XML is larger than libvirt accepts (4 MiB)", code="BAD_XML")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_blank_text=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise UsageError(
            "the domain XML cannot be read", code="BAD_XML", cause=str(error)
        ) from None
    if getattr(root.getroottree().docinfo, "doctype", ""):
        raise UsageError("the domain XML has a document type", code="BAD_XML")
    return root


def serialize(root: etree._Element) -> str:
    """The document as text, indented by two spaces."""
    etree.indent(root, space="  ")
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def text_of(root: etree._Element, path: str) -> str:
    """The text of the first element at ``path``, or an empty string."""
    found = root.find(path)
    return (found.text or "").strip() if found is not None else ""


def set_text(root: etree._Element, tag: str, value: str) -> None:
    """Sets the text of the child ``tag``, which is made, as the first but one child, if missing."""
    child = root.find(tag)
    if child is None:
        child = etree.Element(tag)
        root.insert(min(1, len(root)), child)
    child.text = value


def drop(parent: etree._Element, path: str) -> None:
    """Removes every element at ``path`` below ``parent``."""
    for element in parent.findall(path):
        owner = element.getparent()
        if owner is not None:
            owner.remove(element)
