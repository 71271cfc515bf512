"""Schemas of the kinds that operators bring, written by hand from what their documentation says: no package has them."""

from __future__ import annotations

from tests.deploy.rendered import Document

_TEXT = {"type": "string", "minLength": 1}
_NAMED: Document = {"type": "object", "required": ["name", "namespace"]}
CUSTOM: dict[str, Document] = {
    "ExternalSecret": {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "external-secrets.io/v1"},
            "kind": _TEXT,
            "metadata": _NAMED,
            "spec": {
                "type": "object",
                "additionalProperties": False,
                "required": ["secretStoreRef", "target", "data"],
                "properties": {
                    "refreshInterval": {"type": "string", "pattern": "^[0-9]+[smh]$"},
                    "secretStoreRef": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name"],
                        "properties": {"name": _TEXT, "kind": {"enum": ["SecretStore", "ClusterSecretStore"]}},
                    },
                    "target": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "name": _TEXT,
                            "creationPolicy": {"enum": ["Owner", "Orphan", "Merge", "None"]},
                            "deletionPolicy": {"enum": ["Delete", "Merge", "Retain"]},
                        },
                    },
                    "data": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["secretKey", "remoteRef"],
                            "properties": {
                                "secretKey": _TEXT,
                                "remoteRef": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "required": ["key"],
                                    "properties": {"key": _TEXT, "property": _TEXT, "version": _TEXT},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
    "SealedSecret": {
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "bitnami.com/v1alpha1"},
            "kind": _TEXT,
            "metadata": _NAMED,
            "spec": {
                "type": "object",
                "additionalProperties": False,
                "required": ["encryptedData"],
                "properties": {
                    "encryptedData": {"type": "object", "minProperties": 1, "additionalProperties": _TEXT},
                    "template": {"type": "object"},
                },
            },
        },
    },
}
