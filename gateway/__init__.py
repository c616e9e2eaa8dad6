"""The map: where things are, and where new ones go.

The gateway accepts opt-outs as JSON and as signed webhooks, writes each to its ledger (the
database), and delivers it to CRM Text. The nouns of that are right here. Each thing that the
gateway speaks to has a folder, and so has each entrance:

    consent  phone_number  accounts     the nouns: an opt-out, a number, a store, a caller's key
    stop_words                          what a text has to say to end all texts
    errors                              every error code, one row each
    bodies  timestamps  deadline_http   bytes and times to values; HTTP with one deadline per call
    logs  metrics  version              what an operator sees
    limits                              how much the system allows a process

    crmtext/      speaks to CRM Text: its calls (client) and its XML (answers)
    ledger/       speaks to the database: rows, searches, tables, migrations
    webhooks/     reads other services' webhooks: recipes, signatures, expressions
    delivery/     takes opt-outs to the ledger, and from there to CRM Text: acceptance, attempts,
                  and the worker

    settings      the environment -> Settings, or every fault at once
    assembly      Settings -> the parts, put together
    web/          entrance: Flask. web/api/ (one file a resource), web/docs/ (OpenAPI, its page)
    cli/          entrance: the commands of ``python -m gateway``
    app           Settings -> the web application
    sandbox/      stands in for CRM Text, to try everything; the gateway never imports it

``schemas/``, beside this folder, is what JSON looks like on the way in and out.

To add                      go to
    a method of CRM Text    crmtext/answers.py, crmtext/client.py, its result in consent.py,
                            METHODS in sandbox/customers.py; delivery/ calls it
    a webhook sender        webhooks/recipes.toml, tests/support/signing.py, docs/webhooks.md
    an error code           errors.py, its explanation in web/problems.toml, README.md
    a route                 web/api/ (/metrics and /healthz: web/operations.py; / and /docs:
                            web/docs/page.py), app.py, its schema in schemas/, docs/api.md
    a setting               settings.py, assembly.py, app.json, README.md, docs/deploying.md
    a column                ledger/tables.py, ledger/rows.py, ledger/migrations/; if callers see it,
                            consent.py and schemas/

CONTRIBUTING.md has the steps of each. To read the code, follow one opt-out:
``web/api/opt_outs`` -> ``delivery/acceptance`` -> ``ledger/ledger``, and from there
``delivery/attempts`` -> ``crmtext/client``.

Imports go one way, from floor to floor; tests/test_imports.py has one line for each floor.
"""
