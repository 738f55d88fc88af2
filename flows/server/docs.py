"""The API's documentation as one plain page, made from its OpenAPI: FastAPI's own loads its scripts from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.55 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.05rem; margin: 2.5rem 0 .5rem; }
code { font: .9em ui-monospace, monospace; } table { border-collapse: collapse; width: 100%; }
td { text-align: left; padding: .3rem .6rem .3rem 0; vertical-align: top; border-top: 1px solid #8883; }
b { color: #4f5bd5; } @media (prefers-color-scheme: dark) { b { color: #9aa5ff; } }
"""


def page(spec: dict[str, Any]) -> str:
    """The whole page; nothing in it asks for another file."""
    about = spec["info"]
    title, told = _e(about["title"]), _e(about.get("description", ""))
    head = f"<meta charset='utf-8'><title>{title}</title><meta name='viewport' content='width=device-width'>"
    parts = [f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}</style></head><body>"]
    parts.append(f"<h1>{title} {_e(about['version'])}</h1><p>{told}</p>")
    parts.append("<p>For programs: <a href='openapi.json'>openapi.json</a></p>")
    for path, methods in spec["paths"].items():
        for method, about in methods.items():
            parts.append(_route(spec, path, method, about))
    return "".join(parts) + "</body></html>"


def _route(spec: dict[str, Any], path: str, method: str, about: dict[str, Any]) -> str:
    rows = [
        (one["name"], _kind(one["schema"]), one["schema"].get("description") or one.get("description", ""))
        for one in about.get("parameters", ())
    ]
    fields: dict[str, dict[str, Any]] = {}
    for content in about.get("requestBody", {}).get("content", {}).values():  # as JSON, or as a form with a file
        fields |= _followed(spec, content["schema"]).get("properties", {})
    rows += [(name, _kind(field), field.get("description", "")) for name, field in fields.items()]
    cells = "".join(f"<tr><td><code>{_e(a)}</code><td>{_e(b)}<td>{_e(c)}</tr>" for a, b, c in rows)
    told = "".join(
        f"<tr><td><code>{_e(status)}</code><td colspan=2>{_e(one['description'])}</tr>"
        for status, one in about["responses"].items()
    )
    return (
        f"<h2><b>{_e(method.upper())}</b> <code>{_e(path)}</code></h2><p>{_e(about.get('description', ''))}</p>"
        f"<table>{cells}{told}</table>"
    )


def _followed(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return dict(spec["components"]["schemas"][name]) if name else schema


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("format") == "binary":
        return "file, in a form"
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or schema.get("$ref", "").rpartition("/")[2])


def _e(text: object) -> str:
    return escape(str(text))
