"""Runs GraphQL requests: the schema, bound to Python classes, and a cache of parsed and validated documents."""

import inspect
import keyword
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from operator import attrgetter, itemgetter
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    is_abstract_type,
    is_input_object_type,
    is_object_type,
    parse,
    validate,
)

from wandb_outbox.sandbox.names import ApiError

_log = logging.getLogger(__name__)

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TAKEN = frozenset({"id", "type", "input"})


def snake(name: str) -> str:
    """Return a GraphQL name as a Python name: `sequenceClientID` is `sequence_client_id`."""
    return _WORD_START.sub("_", name).lower()


def _argument_name(name: str) -> str:
    python = snake(name)
    return f"{python}_" if python in _TAKEN or keyword.iskeyword(python) else python


def load_schema(views: Mapping[str, type], kind: Callable[[Any], str]) -> GraphQLSchema:
    """Build the schema and bind each field to the attribute of the same name, in snake case, of the type's class.

    A type whose name ends in `Payload` is a mapping; each other one needs a class with all its fields, so schema and
    code cannot drift apart.

    Args:
        views: The class of each GraphQL object type, by its name.
        kind: Names the GraphQL type of a value, for interfaces and unions.

    Raises:
        TypeError: A class is missing, or a field of one.
    """
    schema = build_schema(files(__package__).joinpath("schema.graphql").read_text("utf-8"))
    for name, type_ in schema.type_map.items():
        if name.startswith("__"):
            continue
        if is_object_type(type_):
            _bind(type_, None if name.endswith("Payload") else views.get(name))
        elif is_input_object_type(type_):
            for field_name, field in type_.fields.items():
                field.out_name = snake(field_name)
        elif is_abstract_type(type_):
            type_.resolve_type = lambda value, _info, _type: kind(value)
    return schema


def _bind(type_: GraphQLObjectType, view: type | None) -> None:
    for name, field in type_.fields.items():
        attribute = snake(name)
        for argument_name, argument in field.args.items():
            argument.out_name = _argument_name(argument_name)
        if type_.name.endswith("Payload"):
            field.resolve = _item(attribute)
            continue
        if view is None:
            raise TypeError(f"no class for the GraphQL type {type_.name}")
        # What __init__ sets is no attribute of the class; its code names it.
        set_by_init = attribute in view.__init__.__code__.co_names  # type: ignore[misc]
        if not hasattr(view, attribute) and not set_by_init:
            raise TypeError(f"{view.__name__} has no {attribute} for {type_.name}.{name}")
        field.resolve = (
            _call(attribute) if inspect.isfunction(getattr(view, attribute, None)) else _attribute(attribute)
        )


def _item(name: str) -> Callable[..., Any]:
    get = itemgetter(name)
    return lambda source, _info: get(source)


def _attribute(name: str) -> Callable[..., Any]:
    get = attrgetter(name)
    return lambda source, _info: get(source)


def _call(name: str) -> Callable[..., Any]:
    get = attrgetter(name)
    return lambda source, _info, **arguments: get(source)(**arguments)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A parsed document.

    Attributes:
        document: None if it cannot be parsed.
        errors: What is wrong with it: syntax, or fields and types that the schema does not have.
        operations: The names of its operations and the root fields of each.
    """

    document: DocumentNode | None
    errors: tuple[GraphQLError, ...]
    operations: Mapping[str, frozenset[str]]

    def name(self, wanted: str | None) -> str:
        """Return the name of the operation that a request runs, `anonymous` if it has none."""
        return wanted or next(iter(self.operations), "") or "anonymous"

    def root_fields(self, wanted: str | None) -> frozenset[str]:
        """Return the root fields that a request asks for."""
        return self.operations.get(wanted or next(iter(self.operations), ""), frozenset())


class Graph:
    """The executable schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        """Use a bound schema."""
        self._schema = schema
        self.prepare = lru_cache(maxsize=1024)(self._prepare)

    def _prepare(self, query: str) -> Prepared:
        try:
            document = parse(query, no_location=True)
        except GraphQLError as error:
            return Prepared(None, (error,), {})
        operations = {
            node.name.value if node.name else "": frozenset(
                each.name.value for each in node.selection_set.selections if isinstance(each, FieldNode)
            )
            for node in document.definitions
            if isinstance(node, OperationDefinitionNode)
        }
        return Prepared(document, tuple(validate(self._schema, document)), operations)

    def execute(
        self, prepared: Prepared, roots: Mapping[str, Any], variables: Any, operation: str | None
    ) -> tuple[int, dict[str, Any], str]:
        """Run an operation.

        Args:
            prepared: The document.
            roots: The objects on which root fields are looked up: `query` and `mutation`.
            variables: As in the request.
            operation: Which operation of the document; None if it has only one.

        Returns:
            HTTP status, body, and what in the request the schema does not have, empty if nothing. The status is that
            of the first refusal, 400 for an invalid request.
        """
        if prepared.errors or prepared.document is None:
            return _invalid(prepared.errors)
        if variables is not None and not isinstance(variables, dict):
            return _invalid([GraphQLError("variables must be an object")])
        chosen = self._chosen(prepared.document, operation)
        result = execute_sync(
            self._schema,
            prepared.document,
            root_value=roots.get(chosen),
            variable_values=variables,
            operation_name=operation or None,
        )
        return _answer(result)

    @staticmethod
    def _chosen(document: DocumentNode, operation: str | None) -> str:
        for node in document.definitions:
            if isinstance(node, OperationDefinitionNode) and (
                not operation or (node.name is not None and node.name.value == operation)
            ):
                return str(node.operation.value)
        return "query"


def _invalid(errors: Sequence[GraphQLError]) -> tuple[int, dict[str, Any], str]:
    messages = [error.message for error in errors]
    return 400, {"errors": [{"message": message} for message in messages]}, "; ".join(messages)


def _answer(result: ExecutionResult) -> tuple[int, dict[str, Any], str]:
    if not result.errors:
        return 200, {"data": result.data}, ""
    if result.data is None and all(error.path is None for error in result.errors):
        return _invalid(result.errors)
    status, errors = 0, []
    for error in result.errors:
        cause = error.original_error
        if isinstance(cause, ApiError):
            status = status or cause.status
            errors.append({"message": cause.message, "path": error.path, "extensions": {"code": cause.code}})
        else:
            _log.error("sandbox: internal error in a resolver", exc_info=cause or error)
            status = status or 500
            errors.append({"message": "internal server error", "path": error.path})
    return status, {"data": result.data, "errors": errors}, ""
