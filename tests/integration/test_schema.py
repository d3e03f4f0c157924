"""`stator schema`: JSON Schemas that say what `stator check --strict` says."""

import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("STATOR_BUILD", ROOT / "build"))
STATOR = os.environ.get("STATOR", str(BUILD / "stator"))
EXAMPLES = sorted(ROOT.glob("docs/examples/*/function.yaml"))


def stator(*args):
    """A run of the program to its end."""
    return subprocess.run([STATOR, *args], capture_output=True, text=True, timeout=60, check=False)


def load(text):
    """YAML as the JSON that it stands for; dates are text."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


@pytest.fixture(name="schemas", scope="module")
def schemas_fixture():
    """Both schemas, valid themselves."""
    found = {}
    for name in ("function", "platform"):
        done = stator("schema", name)
        assert done.returncode == 0 and done.stderr == ""
        schema = json.loads(done.stdout)
        jsonschema.Draft202012Validator.check_schema(schema)
        found[name] = jsonschema.Draft202012Validator(schema)
    return found


def walk(node):
    """Every object of a schema."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from walk(item)


def test_shape(schemas):
    """Names are canonical and once, triggers lie where others embed them from, by themselves."""
    function = schemas["function"].schema
    assert function["required"] == ["spec"]
    spec = function["properties"]["spec"]["properties"]
    assert spec["triggers"] == {"$ref": "#/$defs/triggers"}
    triggers = function["$defs"]["triggers"]
    assert "$ref" not in json.dumps(triggers)
    assert "http" in triggers["additionalProperties"]["properties"]["kind"]["enum"]
    assert spec["stator"]["properties"]["queue"]["properties"]["events"]["default"] == 8192
    for schema in schemas.values():
        for node in walk(schema.schema):
            if "properties" in node and isinstance(node.get("type"), str):
                names = [name.lower() for name in node["properties"]]
                assert len(set(names)) == len(names)


def test_defaults_fit(schemas):
    """Every default is a value that the schema takes."""
    for schema in schemas.values():
        for node in walk(schema.schema):
            if "default" in node and ("type" in node or "anyOf" in node):
                jsonschema.validate(node["default"], node)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_examples(schemas, file):
    """The examples are good, for both."""
    schemas["function"].validate(load(file.read_text()))
    assert stator("check", "--strict", str(file)).returncode == 0


def test_reference_is_current():
    """docs/configuration.md says what the tables say; `make docs` writes it."""
    script = ROOT / "tests" / "support" / "config_reference.py"
    done = subprocess.run([script, STATOR, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


SPEC = "spec: {runtime: native, handler: hello.so%s}\n"


@pytest.mark.parametrize("text, good", [
    (SPEC % "", True),
    (SPEC % ", eventTimeout: 1m30s", True),
    (SPEC % ", eventTimeout: ''", True),
    (SPEC % ", eventTimeout: 5", False),
    (SPEC % ", eventTimeout: soon", False),
    (SPEC % ", stator: {loops: 2, bodyMemory: 64Mi, pin: never}", True),
    (SPEC % ", stator: {loops: '${LOOPS:-2}', bodyMemory: 1048576}", True),
    (SPEC % ", stator: {loops: 65}", False),
    (SPEC % ", stator: {loops: two}", False),
    (SPEC % ", stator: {pin: sometimes}", False),
    (SPEC % ", stator: {queue: {events: 0}}", False),
    (SPEC % ", handlr: x", False),
    (SPEC % ", resources: {limits: {cpu: 1}}, build: {noCache: yes}", True),
    (SPEC % ", env: [{name: A, value: '1'}]", True),
    (SPEC % ", env: [{name: A, value: 1}]", False),
    (SPEC % ", env: [{value: x}]", False),
    (SPEC % ", triggers: {web: {kind: http, attributes: {readBufferSize: 4Ki}}}", True),
    (SPEC % ", triggers: {web: {kind: http, attributes: {readBufferSize: 4}}}", False),
    (SPEC % ", triggers: {web: {kind: http, attributes: {interval: 1s}}}", False),
    (SPEC % ", triggers: {web: {kind: htpt}}", False),
    (SPEC % ", triggers: {web: {numWorkers: 1}}", False),
    (SPEC % ", triggers: {web: {kind: http, numWorkers: -1}}", False),
    (SPEC % ", triggers: [web]", False),
    ("spec: {runtime: 'native:1.0'}\n", True),
    ("spec: {runtime: natives}\n", False),
    ("spec: {handler: hello.so}\n", False),
    ("metadata: {name: x}\n", False),
    ("webAdmin: {enabled: yes, listenAddress: ':1'}\n", True),
    ("healthCheck: {enabled: 'yes'}\n", False),
    ("logger: {sinks: {s: {kind: stdout, attributes: {encoding: json}}}}\n", True),
    ("logger: {sinks: {s: {kind: stdout, attributes: {encoding: xml}}}}\n", False),
    ("logger: {sinks: {s: {}}}\n", False),
    ("metrics: {functions: [a], sinks: {a: {kind: prometheusPull}}}\n", True),
    ("metrics: {functions: a}\n", False),
])
def test_agrees_with_check(schemas, tmp_path, monkeypatch, text, good):
    """What `check --strict` takes is valid, what it refuses is not."""
    monkeypatch.setenv("LOOPS", "3")
    file = tmp_path / "f.yaml"
    file.write_text(text)
    done = stator("check", "--strict", str(file))
    assert (done.returncode == 0) == good, done.stderr
    kind = "function" if text.startswith(("spec", "metadata")) else "platform"
    assert schemas[kind].is_valid(load(text)) == good
