"""What gunicorn serves: ``gunicorn wsgi:app``."""

import os
import sys

from gateway.app import create_app
from gateway.errors import ConfigurationError
from gateway.settings import Settings

try:
    app = create_app(Settings.from_env(os.environ))
except ConfigurationError as error:
    sys.exit(str(error))
