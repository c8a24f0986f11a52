"""The .proto files beside this one, compiled at import into a descriptor pool of their own.

A compiled module of the package `inference` would collide with tritonclient's in a process that has both: protobuf's
default pool holds each name once. https://protobuf.dev/reference/protobuf/proto3-spec/  (the part that is used here)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    word: getattr(Field, f"TYPE_{word.upper()}")
    for word in ("bool", "int32", "int64", "uint32", "uint64", "float", "double", "string", "bytes")
}
TOKEN = re.compile(r'//[^\n]*|"[^"]*"|[\w.]+|[^\s\w]')


def pool() -> descriptor_pool.DescriptorPool:
    """A pool with the three files, and reflection's under its older name as well."""
    made = descriptor_pool.DescriptorPool()
    for name in ("inference", "health", "reflection"):
        text = files("arsenal_serving.protocols").joinpath(f"{name}.proto").read_text()
        made.Add(compile_proto(f"arsenal_serving/{name}.proto", text))
        if name == "reflection":
            older = text.replace("package grpc.reflection.v1;", "package grpc.reflection.v1alpha;")
            made.Add(compile_proto("arsenal_serving/reflection_v1alpha.proto", older))
    return made


def message(of: descriptor_pool.DescriptorPool, name: str) -> Any:
    """The class of a message by its full name."""
    return message_factory.GetMessageClass(of.FindMessageTypeByName(name))


def compile_proto(name: str, text: str) -> descriptor_pb2.FileDescriptorProto:
    """A .proto text's descriptor: messages, maps, oneofs, enums and services, without options.

    >>> message = compile_proto("a.proto", 'syntax = "proto3"; message A { repeated int32 b = 1; }').message_type[0]
    >>> message.field[0].number
    1
    """
    made = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
    tokens = (token for token in TOKEN.findall(text) if not token.startswith("//"))
    for token in tokens:
        if token == "syntax":
            _until(tokens, ";")
        elif token == "package":
            made.package = _until(tokens, ";")[0]
        elif token == "message":
            _message(made.message_type.add(), tokens)
        elif token == "service":
            _service(made.service.add(), tokens)
        else:
            raise ValueError(f"{name}: {token!r} is not understood here.")
    return made


def _until(tokens: Iterator[str], end: str) -> list[str]:
    return list(iter(tokens.__next__, end))


def _message(made: descriptor_pb2.DescriptorProto, tokens: Iterator[str]) -> None:
    made.name, _ = next(tokens), next(tokens)
    oneof: int | None = None
    for token in tokens:
        if token == "}" and oneof is None:
            break
        if token == "}":
            oneof = None
        elif token == "message":
            _message(made.nested_type.add(), tokens)
        elif token == "enum":
            _enum(made.enum_type.add(), tokens)
        elif token == "oneof":
            made.oneof_decl.add(name=_until(tokens, "{")[0])
            oneof = len(made.oneof_decl) - 1
        else:
            _field(made, [token, *_until(tokens, ";")], oneof)
    # An enum's fields are told from a message's by its name, once all are known.
    enums = {enum.name for enum in made.enum_type}
    for field in made.field:
        if field.type_name in enums:
            field.type = Field.TYPE_ENUM


def _field(made: descriptor_pb2.DescriptorProto, words: list[str], oneof: int | None) -> None:
    kind, (name, _, number) = words[0], words[-3:]
    field = made.field.add(name=name, number=int(number), label=Field.LABEL_OPTIONAL)
    if kind == "map":  # map<K, V>: on the wire, repeated entries of a key and a value
        entry = made.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        for at, (part, of) in enumerate((("key", words[2]), ("value", words[4])), 1):
            _read_type(entry.field.add(name=part, number=at, label=Field.LABEL_OPTIONAL), of)
        kind = entry.name
    if words[0] in ("map", "repeated"):
        field.label = Field.LABEL_REPEATED
        kind = words[1] if words[0] == "repeated" else kind
    if oneof is not None:
        field.oneof_index = oneof
    _read_type(field, kind)


def _read_type(field: descriptor_pb2.FieldDescriptorProto, kind: str) -> None:
    field.type = SCALARS.get(kind, Field.TYPE_MESSAGE)
    if kind not in SCALARS:
        field.type_name = kind


def _enum(made: descriptor_pb2.EnumDescriptorProto, tokens: Iterator[str]) -> None:
    made.name, _ = next(tokens), next(tokens)
    for token in iter(tokens.__next__, "}"):
        _, number = _until(tokens, ";")
        made.value.add(name=token, number=int(number))


def _service(made: descriptor_pb2.ServiceDescriptorProto, tokens: Iterator[str]) -> None:
    made.name, _ = next(tokens), next(tokens)
    for _ in iter(tokens.__next__, "}"):  # rpc
        method = made.method.add(name=_until(tokens, "(")[0])
        asked = _until(tokens, ")")
        _until(tokens, "(")
        answered = _until(tokens, ")")
        _until(tokens, "}")
        method.input_type, method.output_type = asked[-1], answered[-1]
        method.client_streaming, method.server_streaming = len(asked) > 1, len(answered) > 1
