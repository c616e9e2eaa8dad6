"""The map of the house. One minute, and you know where things are and where new ones go.

The gateway takes opt-outs as JSON and as signed webhooks, writes each to its ledger, and delivers
them to CRM Text. The nouns of that stand right here, a folder holds each thing that is spoken to,
the entrances stand on top, and one module puts the parts together:

    consent  phone_number  accounts     the nouns: an opt-out, a number, a store, a caller's key
    errors                              every error code, one row each
    bodies  timestamps  deadline_http   reading bytes and times; HTTP under one deadline
    logs  metrics                       what an operator sees

    crmtext/      CRM Text's dialect: its calls (client) and its XML (answers)
    ledger/       what is on record: rows, searches, tables, migrations
    webhooks/     other services' webhooks, as data: recipes, signatures, expressions
    delivery/     where ledger and CRM Text meet: attempts now, and the worker for later

    settings      environment -> Settings, or every fault at once
    assembly      Settings -> the parts, put together
    web/          Flask: api/ (one file a resource), docs/ (OpenAPI and its page), problems
    cli/          the commands of ``python -m gateway``
    app           Settings -> the web application
    sandbox/      a CRM Text to try everything against; the gateway never imports it

``schemas/``, beside this folder, is what JSON looks like on the way in and out.

To read the code, follow one opt-out: ``web/api/opt_outs`` -> ``delivery/attempts`` ->
``ledger/ledger`` and ``crmtext/client``. To add

    a method of CRM Text     crmtext/
    a webhook sender         webhooks/recipes.toml
    an error code            errors, and its text in web/problems
    a route                  web/api/, its description beside it
    a setting                settings
    a column                 ledger/tables, and a file in ledger/migrations/versions

Imports run one way, floor by floor: tests/test_imports.py holds the rule.
"""
