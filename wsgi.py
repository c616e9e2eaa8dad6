"""What gunicorn serves: ``gunicorn wsgi:app``."""

import os

from gateway.app import create_app
from gateway.settings import Settings

app = create_app(Settings.from_env(os.environ))
