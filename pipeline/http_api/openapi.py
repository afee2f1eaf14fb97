"""The description of the interface in OpenAPI 3.1, made from the table of requests and the types of their bodies."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from inbox_agent.identity import agent_version
from pipeline.http_api.call import BYTES, JSON
from pipeline.http_api.endpoint import ApiEndpoint
from pipeline.http_api.parameters import Parameter
from pipeline.http_api.problems import MEDIA_TYPE, TITLES, ProblemDetails

_ABOUT = """\
Control of one project over HTTP. Every request but `/v1/health` and `/v1/openapi.json` needs a token in
`Authorization: Bearer TOKEN`. All requests may be repeated; `429` and `503` have `Retry-After`."""
_ALWAYS = (400, 401, 403, 408, 413, 421, 429, 431, 500, 503)  #: problems that every request with a token may have
_OF_ALL = (400, 403, 421, 431, 500, 503)
_CHANGE = (415, 501)
_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def openapi(endpoints: Sequence[ApiEndpoint], prefix: str) -> dict[str, Any]:
    """The description."""
    types = {each for endpoint in endpoints for each in (endpoint.answer, endpoint.body) if each not in (None, bytes)}
    ordered = sorted((each for each in types if each is not None), key=lambda each: each.__name__)
    (_, *schemas), components = msgspec.json.schema_components(
        (ProblemDetails, *ordered), ref_template="#/components/schemas/{name}"
    )
    _say_base64(components)
    references = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(f"{prefix}{endpoint.path}", {})[endpoint.method.lower()] = _operation(endpoint, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "genome-pipeline", "version": agent_version(), "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _problem(title) for status, title in TITLES.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _say_base64(schemas: dict[str, Any]) -> None:
    """Adds to each member that is bytes which texts are possible; `contentEncoding` alone is only a note."""
    for schema in schemas.values():
        for member in schema.get("properties", {}).values():
            if member.get("contentEncoding") == "base64":
                member["pattern"] = _BASE64


def _operation(endpoint: ApiEndpoint, references: dict[type, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": endpoint.operation,
        "description": endpoint.about,
        "responses": {**_answers(endpoint, references), **_problems(endpoint)},
    }
    if endpoint.scope is not None:
        described["security"] = [{"token": []}]
        described["description"] += f" Scope: `{endpoint.scope}`."
    if endpoint.parameters:
        described["parameters"] = [_parameter(each) for each in endpoint.parameters]
    if endpoint.body_type:
        schema = references.get(endpoint.body, {}) if endpoint.body is not None else {}
        described["requestBody"] = {"required": True, "content": {endpoint.body_type: {"schema": schema}}}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = {"schema": dict(parameter.schema)}
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.about,
        "required": parameter.is_required,
        **({"content": {JSON: schema}} if parameter.is_json else schema),
    }


def _answers(endpoint: ApiEndpoint, references: dict[type, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint.answer is bytes:
        content = {BYTES: {"schema": {}}}
    elif endpoint.answer is not None:
        content = {JSON: {"schema": references[endpoint.answer]}}
    if endpoint.streams:
        content[endpoint.streams] = {"schema": {"type": "string"}}
    answers: dict[str, Any] = {}
    for status in endpoint.statuses:
        answers[str(status)] = {"description": "Done.", **({"content": content} if content else {})}
        if status == 201:
            answers["201"]["headers"] = {"Location": {"schema": {"type": "string"}, "required": True}}
    if endpoint.has_etag:
        tag = {"ETag": {"schema": {"type": "string"}, "required": True}}
        answers["200"]["headers"] = tag
        answers["304"] = {"description": "It is what the client has.", "headers": tag}
    return answers


def _problems(endpoint: ApiEndpoint) -> dict[str, Any]:
    statuses: Iterable[int] = (
        {*_OF_ALL, *endpoint.problems}
        if endpoint.scope is None
        else {*_ALWAYS, *endpoint.problems, *(_CHANGE if endpoint.is_change else ())}
    )
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}


def _problem(title: str) -> dict[str, Any]:
    return {
        "description": f"{title}.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}},
    }
