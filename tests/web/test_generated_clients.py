"""Clients that others generate from the OpenAPI document compile and opt someone out.

In a Python and in a TypeScript program, of the kind that a caller would write.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.factories import DEMO_KEY, NUMBER

pytestmark = pytest.mark.generators

_NPM_PACKAGES = ["openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"]

_PYTHON = """
import sys

from client.api.opt_outs import create_opt_out, get_opt_out
from client.client import AuthenticatedClient
from client.models import ErrorCode, OptOut, OptOutRequest, Problem, Status

address, key, number = sys.argv[1:]
client = AuthenticatedClient(base_url=address, token=key)

made = create_opt_out.sync(client=client, body=OptOutRequest(phone_number=number))
assert isinstance(made, OptOut)
assert made.status is Status.OPTED_OUT

read = get_opt_out.sync(made.id, client=client)
assert isinstance(read, OptOut)

refused = create_opt_out.sync(client=client, body=OptOutRequest(phone_number="9995550404"))
assert isinstance(refused, Problem)
assert refused.code is ErrorCode.CUSTOMER_NOT_FOUND
print(read.id)
"""

_TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };
const [address, key, number] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}` };
const client = createClient<paths>({ baseUrl: address, headers });

const made = await client.POST("/v1/opt-outs", { body: { phone_number: number } });
if (made.error) throw new Error(made.error.detail);
if ("items" in made.data) throw new Error("one store was asked for");
const status: components["schemas"]["Status"] = made.data.status;
if (status !== "opted_out") throw new Error(status);

const path = { opt_out_id: made.data.id };
const read = await client.GET("/v1/opt-outs/{opt_out_id}", { params: { path } });
if (!read.data) throw new Error(read.error.detail);

const refused = await client.POST("/v1/opt-outs", { body: { phone_number: "9995550404" } });
const code: components["schemas"]["ErrorCode"] | undefined = refused.error?.code;
if (code !== "customer_not_found") throw new Error(code);
console.log(read.data.id);
"""


@pytest.fixture(scope="module")
def document(sandboxed_gateway: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("document") / "openapi.json"
    file.write_bytes(requests.get(f"{sandboxed_gateway}/openapi.json", timeout=10).content)
    return file


def run(directory: Path, *command: str | Path) -> str:
    """What a program says; fails with all that it said if it fails."""
    result = subprocess.run(
        command,
        cwd=directory,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(Path.home()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def opted_out(sandboxed_gateway: str, opt_out_id: str) -> str:
    """The number of an opt-out that has ended well."""
    headers = {"Authorization": f"Bearer {DEMO_KEY}"}
    found = requests.get(
        f"{sandboxed_gateway}/v1/opt-outs/{opt_out_id}", headers=headers, timeout=10
    ).json()
    assert found["status"] == "opted_out"
    return str(found["phone_number"])


def test_a_generated_python_client_opts_someone_out(
    sandboxed_gateway: str, document: Path, tmp_path: Path
) -> None:
    options = ["--meta=none", "--output-path=client", "--fail-on-warning"]
    run(tmp_path, "openapi-python-client", "generate", f"--path={document}", *options)
    (tmp_path / "program.py").write_text(_PYTHON, encoding="utf-8")

    run(tmp_path, sys.executable, "-m", "compileall", "-q", "client")
    run(tmp_path, sys.executable, "-m", "mypy", "--follow-imports=silent", "program.py")
    said = run(tmp_path, sys.executable, "program.py", sandboxed_gateway, DEMO_KEY, NUMBER)

    assert opted_out(sandboxed_gateway, said.strip()) == NUMBER


@pytest.fixture(scope="module")
def npm() -> str:
    found = shutil.which("npm")
    if found is None and os.environ.get("CI"):
        pytest.fail("npm is missing; .ci/run installs it")
    if found is None:
        pytest.skip("npm is missing (Debian: apt install nodejs npm)")
    return found


def test_a_generated_typescript_client_opts_someone_out(
    sandboxed_gateway: str, document: Path, npm: str, tmp_path: Path
) -> None:
    package = {"name": "program", "private": True, "type": "module"}
    (tmp_path / "package.json").write_text(json.dumps(package), encoding="utf-8")
    run(tmp_path, npm, "install", "--no-audit", "--no-fund", "--prefer-offline", *_NPM_PACKAGES)
    installed = tmp_path / "node_modules" / ".bin"
    run(tmp_path, installed / "openapi-typescript", document, "--output=api.d.ts")
    (tmp_path / "program.ts").write_text(_TYPESCRIPT, encoding="utf-8")

    libraries = ["--lib", "es2022,dom"]
    options = ["--strict", "--module", "nodenext", "--target", "es2022", *libraries]
    run(tmp_path, installed / "tsc", *options, "program.ts")
    said = run(tmp_path, "node", "program.js", sandboxed_gateway, DEMO_KEY, NUMBER)

    assert opted_out(sandboxed_gateway, said.strip()) == NUMBER
